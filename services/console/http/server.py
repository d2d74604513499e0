"""uvicorn under the process's own life: it takes no signals and never ends the process by itself."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette

from libs.runtime.health import port_refused


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the lifecycle."""
        yield


class WebServer:
    """Serves an application on one port; `variable` names the setting behind it."""

    def __init__(self, application: Starlette, host: str, port: int, *, variable: str = "http_port") -> None:
        self._host, self._port, self._variable = host, port, variable
        self._server = _Server(
            uvicorn.Config(
                application, lifespan="off", log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=3
            )
        )
        self._socket: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port listened on (the chosen one when 0 was asked for)."""
        return int(self._socket.getsockname()[1]) if self._socket is not None else self._port

    def start(self) -> None:
        """Listen. Raises FailedPrecondition, naming port and variable, when the port is taken."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        opened = socket.socket(family, socket.SOCK_STREAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind((self._host, self._port))
        except OSError as failure:
            opened.close()
            raise port_refused(self._host, self._port, self._variable, failure) from failure
        opened.setblocking(False)
        self._socket = opened
        self._task = asyncio.create_task(self._server.serve(sockets=[opened]), name="http")

    async def stop(self) -> None:
        """Finish what is being answered, then stop listening."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        if self._socket is not None:
            self._socket.close()
