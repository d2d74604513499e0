"""vLLM's processes end with the engine, also when the kernel ends it: kill -9 leaves no orphan holding the memory."""

import multiprocessing.spawn
import os
import shlex
import sys
from pathlib import Path

from libs.runtime import bound


def bind_spawned_children(scratch: Path) -> None:
    """Have `multiprocessing` spawn children through `libs.runtime.bound`, which ties each to the spawning thread.

    Their resource tracker is left free: it has to outlive us by a moment to free what a killed process shared. Call
    it in the thread that spawns, and keep the thread.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    launcher = scratch / f"python-bound-{os.getpid()}"
    python, program = shlex.quote(sys.executable), shlex.quote(str(bound.__file__))
    launcher.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *resource_tracker*) exec {python} "$@" ;; esac\n'
        f'exec {python} -I -S {program} {os.getpid()} {python} "$@"\n'
    )
    launcher.chmod(0o700)
    for stale in scratch.glob("python-bound-*"):
        if stale != launcher:
            stale.unlink(missing_ok=True)
    multiprocessing.spawn.set_executable(str(launcher))
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
