"""The HTTP server inside the process's own loop; signals and drain are the process's."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from libs.contracts.errors import FailedPrecondition
from libs.runtime.health import port_refused


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: the process drains in its own order."""
        yield


class HttpServer:
    """Serves one ASGI application on one port."""

    def __init__(self, app: Any, host: str, port: int, *, variable: str, drain_seconds: float) -> None:
        """`variable` names the setting behind the port, for the error when the port is taken."""
        self._host, self._asked, self._variable = host, port, variable
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            interface="asgi3",
            http="httptools",
            ws="none",
            timeout_graceful_shutdown=max(1, int(drain_seconds)),
            timeout_keep_alive=30,
        )
        self._server = _Server(config)
        self._socket: socket.socket | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port listened on."""
        return int(self._socket.getsockname()[1]) if self._socket else self._asked

    async def start(self) -> None:
        """Listen. Raises FailedPrecondition naming port and variable when the port is taken."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((self._host, self._asked))
        except OSError as failure:
            listening.close()
            raise port_refused(self._host, self._asked, self._variable) from failure
        listening.setblocking(False)
        self._socket = listening
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]), name="http")
        while not self._server.started:
            if self._serving.done():
                raise FailedPrecondition(
                    "the HTTP server did not start", field=self._variable
                ) from self._serving.exception()
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Take no new connections, let answers under way finish within the drain time."""
        if self._serving is not None:
            self._server.should_exit = True
            await self._serving
            self._serving = None
