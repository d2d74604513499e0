"""vLLM's processes end with the engine, also when the kernel ends it: kill -9 leaves no orphan holding the memory."""

import multiprocessing.spawn
import os
import shlex
import signal
import sys
from pathlib import Path

from libs.runtime import bound


def bind_children(scratch: Path) -> None:
    """Tie every child that `multiprocessing` starts from here on to the thread that starts it, by fork or by spawn.

    Call it once, in the thread that starts them, and keep that thread. The resource tracker is left free: it has to
    outlive a killed process by a moment to free the memory it shared.
    """
    parents: list[int] = [0]

    def before() -> None:
        parents[0] = os.getpid()

    def in_child() -> None:
        # The descriptor that wakes the engine's loop is inherited: vLLM ends its processes by SIGTERM, and the engine
        # would take that for a second one of its own, in the middle of its drain.
        signal.set_wakeup_fd(-1)
        bound.die_with_parent(parents[0])

    os.register_at_fork(before=before, after_in_child=in_child)
    multiprocessing.spawn.set_executable(str(_launcher(scratch)))


def _launcher(scratch: Path) -> Path:
    scratch.mkdir(parents=True, exist_ok=True)
    for stale in scratch.glob("python-bound-*"):
        stale.unlink(missing_ok=True)
    launcher = scratch / f"python-bound-{os.getpid()}"
    python, program = shlex.quote(sys.executable), shlex.quote(str(bound.__file__))
    launcher.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *resource_tracker*) exec {python} "$@" ;; esac\n'
        f'exec {python} -I -S {program} "$PPID" {python} "$@"\n'
    )
    launcher.chmod(0o700)
    return launcher
