"""Publishing that is confirmed by the stream or fails with a reason."""

from collections.abc import Mapping
from typing import Any

from nats.errors import ConnectionClosedError, MaxPayloadError, OutboundBufferLimitError
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import PubAck
from nats.js.errors import APIError, NoStreamResponseError

from libs.contracts.envelope import Envelope
from libs.contracts.errors import Conflict, FailedPrecondition, InvalidInput, PawlError, ResourceExhausted, Unavailable
from libs.eventing.cloudevents import encode
from libs.eventing.topology import stream_of

__all__ = ["encode", "publish", "publish_raw", "translate"]

PUBLISH_TIMEOUT = 5.0
_WRONG_LAST = (10071, 10164)
_NO_SPACE = (10023, 10028, 10047, 10052, 10077)


async def publish(js: JetStreamContext, envelope: Envelope[Any], *, timeout: float = PUBLISH_TIMEOUT) -> PubAck:
    """Store one event and return the stream's acknowledgement (`duplicate` is set for an id seen in the window).

    Raises Unavailable when the broker is away, PermissionDenied when it forbids the subject, ResourceExhausted when the
    stream is full, FailedPrecondition when the stream does not exist.
    """
    subject, data, headers = encode(envelope)
    return await publish_raw(js, subject, data, headers, timeout=timeout)


async def publish_raw(
    js: JetStreamContext,
    subject: str,
    data: bytes,
    headers: Mapping[str, str] | None = None,
    *,
    timeout: float = PUBLISH_TIMEOUT,
    stream: str | None = None,
) -> PubAck:
    """As `publish`, for bytes that are encoded already; `stream` defaults to the one the topology names."""
    if not js._nc.is_connected:  # noqa: SLF001 - a disconnected client would buffer and time out; say it at once
        raise Unavailable("not connected to NATS", reason="NATS_UNAVAILABLE", subject=subject)
    try:
        return await js.publish(
            subject, data, timeout=timeout, stream=stream or stream_of(subject), headers=dict(headers or {})
        )
    except (NatsError, OSError) as error:
        raise translate(error, subject, js) from error


def translate(error: Exception, subject: str, js: JetStreamContext | None = None) -> PawlError:
    """The error of the tree for a failed publish or request on `subject`."""
    if isinstance(error, NatsTimeoutError):
        look_up = getattr(js, "violation", None)
        denied: PawlError | None = look_up(subject) if look_up else None
        return denied or Unavailable(f"NATS did not confirm {subject} in time", reason="NATS_TIMEOUT", subject=subject)
    if isinstance(error, NoStreamResponseError):
        return FailedPrecondition(
            f"no stream answers for {subject}; apply the topology", reason="STREAM_MISSING", subject=subject
        )
    if isinstance(error, MaxPayloadError):
        return InvalidInput("the message exceeds the broker's payload limit", field="data", subject=subject)
    if isinstance(error, APIError):
        if error.err_code in _WRONG_LAST:
            return Conflict(f"{subject} was written by somebody else: {error.description}", subject=subject)
        if error.err_code in _NO_SPACE:
            return ResourceExhausted(f"NATS cannot store {subject}: {error.description}", subject=subject)
        if error.code is not None and 400 <= error.code < 500:
            return FailedPrecondition(f"NATS refused {subject}: {error.description}", subject=subject)
    if isinstance(error, (ConnectionClosedError, OutboundBufferLimitError, OSError)):
        return Unavailable(f"the connection to NATS is down: {error}", reason="NATS_UNAVAILABLE", subject=subject)
    return Unavailable(f"NATS failed on {subject}: {error}", reason="NATS_ERROR", subject=subject)
