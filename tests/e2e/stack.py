"""A whole local stack for tests, driven as a person drives it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil

from pawl.client import Connection, Pawl

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "support-triage"


class RunningStack:
    """`pawl` commands on one directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._bereaved: set[psutil.Process] = set()

    def pawl(self, *arguments: str, status: int = 0) -> str:
        """Run a command that is expected to end with `status`; its output, errors included."""
        command = [sys.executable, "-m", "pawl.cli", *arguments, "--dir", str(self.home)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "200"})
        assert done.returncode == status, f"pawl {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def status(self) -> dict[str, Any]:
        command = [sys.executable, "-m", "pawl.cli", "status", "--json", "--dir", str(self.home)]
        document: dict[str, Any] = json.loads(
            subprocess.run(command, capture_output=True, text=True, check=False).stdout
        )
        return document

    def client(self) -> Pawl:
        return Pawl(Connection.find(self.home))

    def pid(self, name: str) -> int:
        return int(next(each["pid"] for each in self.status()["processes"] if each["name"].startswith(name)))

    def kill(self, *names: str) -> None:
        for pid in [self.pid(name) for name in names]:
            self._bereaved |= set(psutil.Process(pid).children(recursive=True))
            os.kill(pid, signal.SIGKILL)

    def family(self) -> set[psutil.Process]:
        """Every process of this stack with its children, which may have renamed themselves out of all recognition."""
        found: set[psutil.Process] = set()
        for process in psutil.process_iter(["environ", "cmdline"]):
            environment = process.info["environ"] or {}
            command = " ".join(process.info["cmdline"] or [])
            if str(self.home) in command or environment.get("PAWL_STATE_DIR", "").startswith(str(self.home)):
                found |= {process, *_children(process)}
        return found

    def orphans(self) -> list[str]:
        """What belongs to this stack and to none of its living processes, or outlived a parent that was killed."""
        known = {process for pid in self._pids() for process in (psutil.Process(pid), *_children(psutil.Process(pid)))}
        return described((self.family() - known) | self._bereaved)

    def _pids(self) -> list[int]:
        return [each["pid"] for each in self.status()["processes"] if each["pid"] and psutil.pid_exists(each["pid"])]

    def wait_healthy(self, seconds: float = 120.0) -> None:
        until(
            lambda: all(each["healthy"] for each in self.status()["processes"] or [{"healthy": False}]),
            seconds,
            "healthy",
        )


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def described(processes: Iterable[psutil.Process]) -> list[str]:
    """Those of the processes that are alive, by their command lines."""
    told = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                told.append(" ".join(process.cmdline()) or process.name())
        except psutil.NoSuchProcess:
            continue
    return told


def until(check: Callable[[], Any], seconds: float, what: str) -> Any:
    """Ask again until the answer is true; AssertionError names what was waited for."""
    deadline = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not {what} within {seconds:.0f} s"
        time.sleep(0.3)


def small_task(directory: Path, **changes: str) -> Path:
    """The example's task with a recipe of seconds; `changes` replace whole lines by their start."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = (EXAMPLE / "task.yaml").read_text().splitlines()
    settings = {
        "base:": f"base: {EXAMPLE / 'base'}",
        "  epochs:": "  max_steps: 24",
        "  checkpoint_steps:": "  checkpoint_steps: 6",
        **changes,
    }
    for start, line in settings.items():
        assert any(each.startswith(start) for each in lines), start
        lines = [line if each.startswith(start) else each for each in lines]
    path = directory / "task.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def lax_task(directory: Path, **changes: str) -> Path:
    """`small_task` with gates and a rollout that let anything through that does not break: for tests of the loop."""
    gate = "    - {name: %s, kind: %s}"
    lax = {
        "    - {name: good-enough": "",
        "    - {name: valid-json": gate % ("json", "non_inferiority, against: base, metric: json_valid, margin: 0.9"),
        "    - {name: better-than-base": gate % ("any-base", "non_inferiority, against: base, margin: 0.9"),
        "    - {name: not-worse-than-stable": gate % ("any-stable", "non_inferiority, against: stable, margin: 0.9"),
        "    max_items:": "    max_items: 80",
        "  shadow:": "  shadow: {rate: 1.0, min_pairs: 10, margin: 0.9, alpha: 0.05}",
        "  canary:": "  canary: {steps: [50, 100], min_windows: 5, window_seconds: 3, harm_ratio: 5.0}",
    }
    return small_task(directory, **{**lax, **changes})


def discard(home: Path) -> None:
    """Take a stack down and away."""
    subprocess.run([sys.executable, "-m", "pawl.cli", "down", "--dir", str(home)], check=False, capture_output=True)
    shutil.rmtree(home, ignore_errors=True)
