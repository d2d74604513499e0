"""One supervised process: started, watched by pid and health, restarted with backoff, adopted when found."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil

from pawl.local.specs import ProcessSpec

FIRST_BACKOFF_SECONDS = 0.3
MOST_BACKOFF_SECONDS = 10.0
STABLE_SECONDS = 20.0
DEAF_SECONDS = 40.0
"""A process that is alive but fails its liveness probe for so long is killed."""


@dataclass(slots=True)
class ManagedProcess:
    """A process that ought to run. `healthy` is what its readiness probe said last; `why` says why not."""

    spec: ProcessSpec
    process: psutil.Process | None = None
    healthy: bool = False
    why: str = "not started"
    restarts: int = 0
    backoff: float = FIRST_BACKOFF_SECONDS
    started_at: float = 0.0
    next_start: float = 0.0
    deaf_since: float | None = None
    child: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self.process.pid if self.process else None

    def start(self) -> None:
        """Start it now; its output goes to its log."""
        try:
            self.spec.log.parent.mkdir(parents=True, exist_ok=True)
            with self.spec.log.open("ab") as log:
                self.child = subprocess.Popen(  # its own session: a Ctrl-C is the supervisor's to pass on
                    self.spec.argv,
                    env=os.environ | self.spec.env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:  # a full disk, or too many processes: tried again, later and later
            self.note_exit(f"cannot start: {error.strerror}")
            return
        self.process = psutil.Process(self.child.pid)
        self.started_at = time.monotonic()
        self.healthy, self.why = False, "starting"
        self.deaf_since = None

    def adopt(self, pid: int, create_time: float) -> bool:
        """Take over a running process of an earlier supervisor; False if it is gone or is another program."""
        try:
            process = psutil.Process(pid)
            if abs(process.create_time() - create_time) > 0.1 or process.cmdline() != list(self.spec.argv):
                return False
        except psutil.Error:
            return False
        self.process, self.started_at, self.why = process, time.monotonic(), "adopted"
        return True

    def exited(self) -> str | None:
        """How it ended, or None while it runs."""
        if self.process is None:
            return "not running"
        if self.child is not None and self.child.pid == self.process.pid:
            status = self.child.poll()
            return None if status is None else _ending(status)
        try:
            alive = self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            alive = False
        return None if alive else "is gone"

    def note_exit(self, how: str) -> None:
        """Plan the restart: at once after a long life, later and later after short ones."""
        lived = time.monotonic() - self.started_at
        self.backoff = FIRST_BACKOFF_SECONDS if lived > STABLE_SECONDS else min(self.backoff * 2, MOST_BACKOFF_SECONDS)
        self.next_start = time.monotonic() + (0.0 if lived > STABLE_SECONDS else self.backoff)
        self.process, self.child, self.healthy, self.why = None, None, False, how
        self.restarts += 1

    async def probe(self, client: httpx.AsyncClient) -> None:
        """Ask its readiness; kill it when it has been deaf for long."""
        ready, why = await _answers(client, self.spec.health)
        self.healthy, self.why = ready, "" if ready else why
        if ready or (await _answers(client, self.spec.live))[0]:
            self.deaf_since = None
        elif self.deaf_since is None:
            self.deaf_since = time.monotonic()
        elif time.monotonic() - max(self.deaf_since, self.started_at) > DEAF_SECONDS and self.process:
            self.why = f"deaf for {DEAF_SECONDS:.0f} s, killed"
            self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it, if it runs."""
        if self.process is not None:
            try:
                self.process.send_signal(number)
            except psutil.NoSuchProcess:
                return

    async def stop(self) -> None:
        """SIGTERM, its grace time, then SIGKILL for it and what it left behind."""
        if self.process is None:
            return
        try:
            family = self.process.children(recursive=True)
        except psutil.Error:
            family = []
        self.signal(signal.SIGTERM)
        deadline = time.monotonic() + self.spec.grace_seconds
        while self.exited() is None and time.monotonic() < deadline:  # noqa: ASYNC110 - a pid has no event
            await asyncio.sleep(0.05)
        if self.exited() is None:
            self.signal(signal.SIGKILL)
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        self.process, self.child, self.healthy, self.why = None, None, False, "stopped"

    def record(self) -> dict[str, Any]:
        """What `pawl status` tells about it."""
        return {
            "name": self.spec.name,
            "pid": self.pid,
            "healthy": self.healthy,
            "log": str(self.spec.log),
            "why": self.why,
            "restarts": self.restarts,
            "create_time": self.process.create_time() if self.process and self.process.is_running() else None,
            "argv": list(self.spec.argv),
        }


def _ending(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"


async def _answers(client: httpx.AsyncClient, url: str) -> tuple[bool, str]:
    if url.startswith("tcp://"):
        host, port = url.removeprefix("tcp://").split(":")
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), 2)
        except (OSError, TimeoutError):
            return False, "does not answer"
        writer.close()
        return True, ""
    try:
        response = await client.get(url)
    except httpx.HTTPError:
        return False, "starting or not answering"
    return response.status_code == 200, _failing(response)


def _failing(response: httpx.Response) -> str:
    """What a readiness probe says fails, in a line."""
    try:
        failing = response.json()["failing"].items()
    except (ValueError, KeyError, TypeError, AttributeError):
        return " ".join(response.text.split())[:300]
    return "; ".join(f"{part}: {why}" for part, why in failing)[:300]
