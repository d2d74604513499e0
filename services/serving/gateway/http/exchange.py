"""One exchange with a client: what it sent, what it gets, and work given up when it hangs up."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from pydantic_core import to_json
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from libs.contracts.errors import InvalidInput

T = TypeVar("T")

_WATCH_AFTER_SECONDS = 0.02
"""An answer that is there by then is sent without having looked whether anybody is left to read it."""


def headers_of(request: Request) -> dict[str, str]:
    """The headers by lower-case name; of one that comes twice, the first."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(request.scope["headers"])}


async def body_of(request: Request, most: int) -> bytes:
    """The whole body. Raises InvalidInput beyond `most` bytes, ClientDisconnect when it does not end."""
    held = bytearray()
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        held += message.get("body", b"")
        if len(held) > most:
            raise InvalidInput(f"the body has more than {most} bytes", reason="BODY_TOO_LARGE")
        if not message.get("more_body", False):
            return bytes(held)


def encoded(content: Any) -> bytes:
    """Compact JSON in UTF-8; numbers that JSON does not have are null."""
    return to_json(content, inf_nan_mode="null")


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response of one JSON document."""
    return Response(encoded(content), status, headers, "application/json")


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client hangs up: nobody would read it.

    Raises ClientDisconnect then.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    watching: asyncio.Task[None] | None = None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    def begin() -> None:
        nonlocal watching
        watching = loop.create_task(watch(), name="hang-up")

    timer = loop.call_later(_WATCH_AFTER_SECONDS, begin)
    try:
        return await work
    except asyncio.CancelledError:
        if gone and task.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        timer.cancel()
        if watching is not None:
            watching.cancel()


class EventStream(Response):
    """Server-sent events as they come; where the client hangs up their generator is closed."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], headers: Mapping[str, str]) -> None:
        """`events` are whole events, each with its blank line."""
        self._events = events
        self.status_code = 200
        self.background = None
        self.init_headers({**headers, "cache-control": "no-cache", "x-accel-buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Send them all."""
        try:
            await unless_gone(receive, self._send(send))
        except ClientDisconnect:
            return

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._events) as events:
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
