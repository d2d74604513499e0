// Fetches the page again every two seconds and swaps its content, keeping what the reader opened and where they are.
const EVERY = 2000;
const live = document.getElementById("live");
let shown = document.getElementById("main").innerHTML;

async function look() {
  if (document.hidden || !getSelection().isCollapsed) return;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
    live.textContent = "live";
    live.classList.remove("lost");
    if (!page || page.innerHTML === shown) return;
    const main = document.getElementById("main");
    const open = [...main.querySelectorAll("details[open][id]")].map((each) => each.id);
    const focused = document.activeElement && document.activeElement.closest("details[id]");
    shown = page.innerHTML;
    main.innerHTML = shown;
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    if (focused) document.getElementById(focused.id)?.querySelector("summary")?.focus({ preventScroll: true });
  } catch {
    live.textContent = "console is away";
    live.classList.add("lost");
  }
}

setInterval(look, EVERY);
