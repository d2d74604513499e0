"""Channels to other processes: trace and deadline on every call, fast reconnects, errors of the one tree."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from grpc.aio import ClientCallDetails, Metadata

from libs.runtime.grpc_errors import errors_from_rpc
from libs.telemetry import current_traceparent

DEFAULT_DEADLINE_SECONDS = 10.0
MAX_MESSAGE_BYTES = 16 * 1024 * 1024


def channel(
    address: str,
    *,
    credentials: grpc.ChannelCredentials | None = None,
    default_deadline: float = DEFAULT_DEADLINE_SECONDS,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    plain: bool = False,
) -> grpc.aio.Channel:
    """A channel to `host:port`; nothing is connected yet. Close it with `await channel.close()`.

    Unary calls without a `timeout=` get `default_deadline` seconds; streams get none. A server that comes back is
    found within two seconds. On a `plain` channel the caller gives each call its deadline and trace: for a path that is
    gone so often that interceptors would be felt.
    """
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.initial_reconnect_backoff_ms", 100),
        # Whatever its name says, that is how long an attempt to connect may take at least.
        ("grpc.min_reconnect_backoff_ms", 2000),
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # Processes talk to one another directly; a proxy meant for the internet would be asked for 127.0.0.1.
        ("grpc.enable_http_proxy", 0),
    ]
    interceptors: tuple[Any, ...] = (
        ()
        if plain
        else (
            _UnaryUnary(default_deadline),
            _UnaryStream(default_deadline),
            _StreamUnary(default_deadline),
            _StreamStream(default_deadline),
        )
    )
    if credentials is not None:
        return grpc.aio.secure_channel(address, credentials, options=options, interceptors=interceptors)
    return grpc.aio.insecure_channel(address, options=options, interceptors=interceptors)


@contextmanager
def rpc_errors() -> Iterator[None]:
    """Turn a failed call in the block into the PawlError behind it (`errors_from_rpc`), streams included."""
    try:
        yield
    except grpc.aio.AioRpcError as failure:
        raise errors_from_rpc(failure) from failure


async def call(method: Callable[..., Any], request: object, *, timeout: float | None = None, **options: Any) -> Any:
    """`await stub.Method(request)` with a deadline in seconds; raises PawlError instead of AioRpcError."""
    with rpc_errors():
        return await method(request, timeout=timeout, **options)


def remaining(context: grpc.aio.ServicerContext[Any, Any] | None, default: float = DEFAULT_DEADLINE_SECONDS) -> float:
    """Seconds that a call made on behalf of `context` may take: what is left of its deadline, `default` at most."""
    left = context.time_remaining() if context is not None else None
    return default if left is None else max(0.001, min(default, left))


class _Outgoing:
    def __init__(self, default_deadline: float) -> None:
        self._default_deadline = default_deadline

    def _details(self, details: ClientCallDetails, *, bounded: bool) -> ClientCallDetails:
        metadata = Metadata(*(details.metadata or ()))
        traceparent = current_traceparent()
        if traceparent is not None and metadata.get("traceparent") is None:
            metadata.add("traceparent", traceparent)
        timeout = self._default_deadline if bounded and details.timeout is None else details.timeout
        return ClientCallDetails(details.method, timeout, metadata, details.credentials, details.wait_for_ready)


class _UnaryUnary(_Outgoing, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(self._details(client_call_details, bounded=True), request)


class _UnaryStream(_Outgoing, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self, continuation: Any, client_call_details: ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(self._details(client_call_details, bounded=False), request)


class _StreamUnary(_Outgoing, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(
        self, continuation: Any, client_call_details: ClientCallDetails, request_iterator: Any
    ) -> Any:
        return await continuation(self._details(client_call_details, bounded=False), request_iterator)


class _StreamStream(_Outgoing, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self, continuation: Any, client_call_details: ClientCallDetails, request_iterator: Any
    ) -> Any:
        return await continuation(self._details(client_call_details, bounded=False), request_iterator)


__all__ = [
    "DEFAULT_DEADLINE_SECONDS",
    "MAX_MESSAGE_BYTES",
    "call",
    "channel",
    "errors_from_rpc",
    "remaining",
    "rpc_errors",
]
