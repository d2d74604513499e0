// Keys for voting and how long a pair was looked at; without this script the buttons do the same.
const began = performance.now();
const ballot = document.getElementById("ballot");
const buttons = [...document.querySelectorAll("button[data-key]")];
let sent = false;

if (ballot) {
  ballot.addEventListener("submit", () => {
    ballot.elements.dwell_ms.value = Math.round(performance.now() - began);
  });
}

document.addEventListener("keydown", (event) => {
  if (sent || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "?") {
    const guidelines = document.getElementById("guidelines");
    if (guidelines) guidelines.open = !guidelines.open;
    return;
  }
  const button = buttons.find((each) => each.dataset.key === event.key.toLowerCase() && !each.disabled);
  if (!button) return;
  event.preventDefault();
  sent = true;
  button.classList.add("chosen");
  button.click();
});
