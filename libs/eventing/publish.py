"""Publishing that is confirmed by the stream or fails with a reason."""

import json
import uuid
from collections.abc import Mapping, Sequence
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

__all__ = ["encode", "publish", "publish_atomic", "publish_raw", "translate"]

PUBLISH_TIMEOUT = 5.0
_WRONG_LAST = (10071, 10164)
MOST_ATOMIC = 1000
"""Messages in one atomic batch; the broker takes no more."""
_ALREADY_THERE = 10201
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


async def publish_atomic(
    js: JetStreamContext,
    stream: str,
    messages: Sequence[tuple[str, bytes, Mapping[str, str]]],
    common: Mapping[str, str] | None = None,
) -> bool:
    """Store up to `MOST_ATOMIC` messages (subject, data, headers) of one stream, all or none (ADR-50).

    One confirmation stands for all, so this costs a fraction of what single ones do. `common` are headers that all
    have; header values must be printable. Returns False, with nothing stored, when one of the message ids is
    there already: then publish one by one. Raises as `publish_raw`.
    """
    client = js._nc  # noqa: SLF001
    if not client.is_connected:
        raise Unavailable("not connected to NATS", reason="NATS_UNAVAILABLE", stream=stream)
    batch = uuid.uuid4().hex
    *first, (subject, data, headers) = messages
    frames, shared = list[bytes](), dict(common or {})
    opening = f"NATS/1.0\r\n{_lines(shared)}Nats-Batch-Id: {batch}\r\nNats-Batch-Sequence: "
    for number, (each, body, said) in enumerate(first, 1):
        head = f"{opening}{number}\r\n{_lines(said)}\r\n".encode()
        frames += (f"HPUB {each} {len(head)} {len(head) + len(body)}\r\n".encode(), head, body, b"\r\n")
    last = {
        "Nats-Batch-Id": batch,
        "Nats-Batch-Sequence": str(len(messages)),
        "Nats-Batch-Commit": "1",
        **shared,
        **headers,
    }
    try:
        if frames:
            await client._send_command(b"".join(frames))  # noqa: SLF001 - no public way to publish several at once
        stored = json.loads(
            (await client.request(subject, data, timeout=PUBLISH_TIMEOUT, headers=last | shared | dict(headers))).data
        )
        if "error" in stored:
            if stored["error"].get("err_code") == _ALREADY_THERE:
                return False
            raise APIError.from_error(stored["error"])
    except (NatsError, OSError) as error:
        raise translate(error, subject, js) from error
    return True


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


def _lines(headers: Mapping[str, str]) -> str:
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
