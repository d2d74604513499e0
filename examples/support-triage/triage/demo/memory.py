"""How much memory the whole stack takes, shared pages counted once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

EVERY_SECONDS = 10.0


@contextmanager
def watched(stack: Path, into: dict[str, Any]) -> Iterator[None]:
    """Keep the peak of the stack's memory in `into`: `peak_gib`, and `by_process` in MiB at that moment."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(EVERY_SECONDS):
            held = by_process(stack)
            total = round(sum(held.values()) / 1024, 2)
            if total > into.get("peak_gib", 0.0):
                into.update(peak_gib=total, by_process=dict(sorted(held.items(), key=lambda each: -each[1])))

    thread = threading.Thread(target=look, name="memory", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def by_process(stack: Path) -> dict[str, float]:
    """MiB (proportional set size) of each process of a stack and its children, by name."""
    held: dict[str, float] = {}
    for process in _family(stack):
        try:
            pages, command = process.memory_full_info(), process.cmdline()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended while we looked
        program = Path(command[0]).name if command else "?"
        name = next((part for part in command if part.startswith("services.")), program)
        held[name] = round(held.get(name, 0.0) + getattr(pages, "pss", pages.rss) / 2**20, 1)
    return held


def _family(stack: Path) -> set[psutil.Process]:
    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        try:
            words = [process.environ().get("PAWL_STATE_DIR", ""), *process.cmdline()]
            # A process that renames itself overwrites its environment: children count with their parents.
            if any(word.startswith(f"{stack}/") for word in words):
                found |= {process, *process.children(recursive=True)}
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
