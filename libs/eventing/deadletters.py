"""Dead letters: the original with its reason and deliveries, how to list them and how to send them back."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from libs.contracts.errors import InvalidInput, NotFound
from libs.contracts.subjects import DEAD_LETTERS
from libs.eventing.publish import publish_raw
from libs.telemetry import counter, get_logger

log = get_logger(__name__)

REASON = "pawl-dlq-reason"
DELIVERIES = "pawl-dlq-deliveries"
SUBJECT = "pawl-dlq-subject"
STREAM = "pawl-dlq-stream"
SEQUENCE = "pawl-dlq-seq"
CONSUMER = "pawl-dlq-consumer"
MSG_ID = "pawl-dlq-msg-id"
_OURS = (REASON, DELIVERIES, SUBJECT, STREAM, SEQUENCE, CONSUMER, MSG_ID)
_MAX_REASON = 500


class Original(Protocol):
    """What of a message a dead letter keeps; `RawMessage` is one."""

    @property
    def subject(self) -> str:
        """Subject it was published to."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers as the writer cased them."""

    @property
    def data(self) -> bytes:
        """Payload."""

    @property
    def stream(self) -> str:
        """Stream it lies in."""

    @property
    def stream_seq(self) -> int:
        """Its sequence there."""

    @property
    def consumer(self) -> str:
        """Durable that failed on it."""


@dataclass(frozen=True, slots=True)
class Letter:
    """An `Original` put together by hand (an exhausted message read back from its stream)."""

    subject: str
    headers: Mapping[str, str]
    data: bytes
    stream: str
    stream_seq: int
    consumer: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter; `seq` is its place in the dead-letter stream, `stream_seq` the original's in its own."""

    seq: int
    subject: str
    reason: str
    deliveries: int
    consumer: str
    stream: str
    stream_seq: int
    headers: Mapping[str, str]
    data: bytes
    buried_at: datetime | None = None


async def dead_letter(js: JetStreamContext, raw: Original, reason: str, deliveries: int) -> None:
    """Copy a message to the dead-letter stream; doing so twice for one (consumer, message) stores it once.

    The copy comes before the original is terminated: on a work queue termination deletes it.
    """
    headers = {name: value for name, value in raw.headers.items() if not name.lower().startswith("nats-")}
    original_id = next((value for name, value in raw.headers.items() if name.lower() == "nats-msg-id"), "")
    flat = " ".join(reason.split())[:_MAX_REASON]
    headers |= {
        "Nats-Msg-Id": f"dlq/{raw.stream}/{raw.consumer}/{raw.stream_seq}",
        REASON: flat.encode("ascii", "backslashreplace").decode(),
        DELIVERIES: str(deliveries),
        SUBJECT: raw.subject,
        STREAM: raw.stream,
        SEQUENCE: str(raw.stream_seq),
        CONSUMER: raw.consumer,
        MSG_ID: original_id,
    }
    await publish_raw(js, f"dlq.{raw.consumer}", raw.data, headers, stream=DEAD_LETTERS)
    counter("dead_letters", "messages moved to the dead-letter stream", ["consumer"]).labels(raw.consumer).inc()
    log.error("dead letter", consumer=raw.consumer, subject=raw.subject, seq=raw.stream_seq, reason=flat)


async def get_dead(js: JetStreamContext, seq: int) -> DeadLetter:
    """The dead letter at `seq`; NotFound when it is gone or never was."""
    try:
        stored = await js.get_msg(DEAD_LETTERS, seq=seq)
    except NotFoundError as error:
        raise NotFound(f"no dead letter {seq}", field="seq") from error
    given = {name.lower(): value for name, value in (stored.headers or {}).items()}
    if SUBJECT not in given:
        raise InvalidInput(f"message {seq} of {DEAD_LETTERS} is not a dead letter", field="seq")
    return DeadLetter(
        seq=seq,
        subject=given[SUBJECT],
        reason=given.get(REASON, ""),
        deliveries=int(given.get(DELIVERIES, "0")),
        consumer=given.get(CONSUMER, ""),
        stream=given.get(STREAM, ""),
        stream_seq=int(given.get(SEQUENCE, "0")),
        headers={k: v for k, v in (stored.headers or {}).items() if k.lower() not in (*_OURS, "nats-msg-id")},
        data=stored.data or b"",
        buried_at=stored.time,
    )


async def list_dead(js: JetStreamContext, *, limit: int = 1000) -> list[DeadLetter]:
    """Up to `limit` dead letters, oldest first."""
    return [letter async for letter in _walk(js, limit)]


async def redrive(js: JetStreamContext, seq: int) -> int:
    """Publish the original again with its headers and trace, then drop the dead letter; returns the new sequence.

    The message id is a new one (the old could still lie in the duplicate window), the event id stays: whoever handled
    the event before will not handle it twice. Redriving one letter twice stores it once.
    """
    letter = await get_dead(js, seq)
    headers = {**letter.headers, "Nats-Msg-Id": f"redrive/{letter.stream}/{letter.stream_seq}/{seq}"}
    stored = await publish_raw(js, letter.subject, letter.data, headers)
    with contextlib.suppress(NotFoundError):
        await js.delete_msg(DEAD_LETTERS, seq)
    log.info("dead letter redriven", seq=seq, subject=letter.subject, new_seq=stored.seq)
    return int(stored.seq)


async def _walk(js: JetStreamContext, limit: int) -> AsyncIterator[DeadLetter]:
    state = (await js.stream_info(DEAD_LETTERS)).state
    seq, found = max(state.first_seq, 1), 0
    while seq <= state.last_seq and found < limit:
        try:
            yield await get_dead(js, seq)
            found += 1
        except (NotFound, InvalidInput):
            pass
        seq += 1
