"""Child processes that cannot outlive their parent: spawned, never forked, killed by the kernel with it."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from libs.contracts.errors import FailedPrecondition, InvalidInput, Unavailable
from libs.runtime.bound import CHANNEL_VARIABLE, bound_command

_MAX_LINE_BYTES = 1024 * 1024


class Child:
    """A running child process; messages go both ways over a private socket.

    It leads a process group of its own, and what is left of the group when it ends is ended too.
    """

    def __init__(self, process: subprocess.Popen[bytes], link: socket.socket) -> None:
        self._process = process
        self._exited = asyncio.get_running_loop().create_future()
        self._pidfd = os.pidfd_open(process.pid)
        self._link = link
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)

    @property
    def pid(self) -> int:
        """Process id, also the id of the child's process group."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for the signal that ended it, None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait for the end; cancelling the wait leaves the child running."""
        await asyncio.shield(self._exited)
        return int(self._process.returncode)

    def terminate(self) -> None:
        """Ask the child to stop (SIGTERM, the leader alone)."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End the child and every process of its group at once (SIGKILL)."""
        if self.returncode is None:
            self._kill_group()

    async def stop(self, grace: float = 5.0) -> int:
        """SIGTERM, then SIGKILL to the whole group after `grace` seconds; returns the exit status."""
        self.terminate()
        try:
            async with asyncio.timeout(grace):
                await self.wait()
        except TimeoutError:
            self.kill()
        return await self.wait()

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send a JSON object to the child. Raises Unavailable when it has closed its end."""
        _, writer = await self._open()
        try:
            writer.write(json.dumps(message).encode() + b"\n")
            await writer.drain()
        except (ConnectionError, RuntimeError) as failure:
            raise Unavailable(f"child {self.pid} does not listen any more", reason="CHILD_GONE") from failure

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """JSON objects that the child sends, until it closes its end or dies. Raises InvalidInput on anything else."""
        reader, _ = await self._open()
        while True:
            try:
                line = await reader.readline()
            except ConnectionError:
                return
            except ValueError as failure:
                raise InvalidInput(f"child {self.pid} sent a line of more than {_MAX_LINE_BYTES} bytes") from failure
            if not line.endswith(b"\n"):
                return  # closed; half a line is what a killed child leaves
            try:
                message = json.loads(line)
            except ValueError as failure:
                raise InvalidInput(f"child {self.pid} sent a line that is not JSON") from failure
            if not isinstance(message, dict):
                raise InvalidInput(f"child {self.pid} sent a line that is not a JSON object")
            yield message

    def close(self) -> None:
        """Close our end of the socket; the child keeps running."""
        if self._streams is not None:
            self._streams[1].close()
        else:
            self._link.close()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_unix_connection(sock=self._link, limit=_MAX_LINE_BYTES)
        return self._streams

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        # A grandchild that stayed behind belongs to nobody. Until the child is waited for its id cannot name others.
        self._kill_group()
        self._process.wait()
        if not self._exited.done():
            self._exited.set_result(None)


async def spawn_child(
    what: Sequence[str] | Callable[..., object],
    *arguments: Any,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdout: int | BinaryIO | None = None,
    stderr: int | BinaryIO | None = None,
) -> Child:
    """Start a command, or a module-level function with JSON arguments in a fresh interpreter, bound to this process.

    The kernel kills it (SIGKILL) as soon as this process is gone, however that happened. `env` adds to the
    environment. It reads nothing from stdin; stdout and stderr are inherited unless given. Call it from the main
    thread: the kernel ties the child to the calling *thread*, so FailedPrecondition is raised from another. Raises
    InvalidInput without a command or with arguments that are not JSON; a command that does not exist ends with 127.
    """
    if threading.current_thread() is not threading.main_thread():
        raise FailedPrecondition("a child is spawned from the main thread: it dies with the thread that spawned it")
    command = _function_command(what, arguments) if callable(what) else [*what, *(str(each) for each in arguments)]
    if not command:
        raise InvalidInput("no command to run", field="argv")
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(  # noqa: ASYNC220 - waits for no more than exec
            bound_command(command),
            env={**os.environ, **(env or {}), CHANNEL_VARIABLE: str(theirs.fileno())},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
    except OSError as failure:
        ours.close()
        raise InvalidInput(f"cannot start {command[0]}: {failure.strerror}", field="argv") from failure
    finally:
        theirs.close()
    ours.setblocking(False)
    return Child(process, ours)


def _function_command(function: Callable[..., object], arguments: Sequence[Any]) -> list[str]:
    module, name = function.__module__, function.__qualname__
    if module == "__main__" or "<" in name:
        raise InvalidInput(f"{module}.{name} is not a function of an importable module", field="target")
    try:
        encoded = json.dumps(arguments)
    except TypeError as failure:
        raise InvalidInput(f"arguments of a child are JSON: {failure}", field="arguments") from failure
    return [sys.executable, "-m", "libs.runtime.child_main", f"{module}:{name}", encoded]
