"""Where training processes on other machines report to: one connection each, known by a token."""

import asyncio
import hmac
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from typing import Any

from libs.contracts.errors import Unavailable
from libs.telemetry import get_logger

log = get_logger(__name__)

_MAX_LINE_BYTES = 1024 * 1024
_GREETING_SECONDS = 10.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Door:
    """Listens on a port of the cluster's network; a caller that names no expected token is sent away.

    Args:
        host: Interface to listen on.
        port: Port; 0 for a free one.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self._expected: dict[str, asyncio.Future[Streams]] = {}

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._greet, self._host, self._port, limit=_MAX_LINE_BYTES)

    async def stop(self) -> None:
        """Listen no more; connections that stand are left to those who hold them."""
        if self._server is not None:
            self._server.close()

    def expect(self) -> "Visit":
        """Await one caller, under a token of its own."""
        token = secrets.token_urlsafe(32)
        self._expected[token] = asyncio.get_running_loop().create_future()
        return Visit(self, token, self._expected[token])

    def forget(self, token: str) -> None:
        """Await it no more."""
        self._expected.pop(token, None)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_GREETING_SECONDS):
                told = str(json.loads(await reader.readline())["token"])
        except (TimeoutError, ValueError, KeyError, TypeError, ConnectionError):
            told = ""
        known = next((token for token in self._expected if hmac.compare_digest(token.encode(), told.encode())), None)
        if known is None or self._expected[known].done():
            log.warning("a caller without a token was sent away", peer=str(writer.get_extra_info("peername")))
            writer.close()
            return
        self._expected[known].set_result((reader, writer))


class Visit:
    """One expected caller: JSON objects both ways, as with a process of this machine."""

    def __init__(self, door: Door, token: str, arrival: "asyncio.Future[Streams]") -> None:
        self._door = door
        self._arrival = arrival
        self.token = token

    @property
    def here(self) -> bool:
        """Whether the caller has come."""
        return self._arrival.done()

    async def send(self, message: Mapping[str, Any]) -> None:
        """Say something. Raises Unavailable when the caller has gone, or never came."""
        if not self.here:
            raise Unavailable("the training process has not called yet", reason="CHILD_GONE")
        _, writer = self._arrival.result()
        try:
            writer.write(json.dumps(message).encode() + b"\n")
            await writer.drain()
        except (ConnectionError, RuntimeError) as error:
            raise Unavailable("the training process does not listen any more", reason="CHILD_GONE") from error

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """What the caller says, until it is gone; waits for it to come."""
        reader, _ = await asyncio.shield(self._arrival)
        while True:
            try:
                line = await reader.readline()
            except (ConnectionError, ValueError):
                return
            if not line.endswith(b"\n"):
                return
            yield json.loads(line)

    def close(self) -> None:
        """End the connection, and expect nobody any more."""
        if self.here:
            self._arrival.result()[1].close()
        self._door.forget(self.token)
