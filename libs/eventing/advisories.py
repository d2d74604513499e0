"""Rescues messages that ran out of deliveries without a word: the broker's advisory is their only trace."""

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress

from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from libs.eventing import topology
from libs.eventing.batches import BatchConsumer, RawMessage
from libs.eventing.connection import NatsLink
from libs.eventing.deadletters import Letter, dead_letter
from libs.eventing.publish import translate
from libs.telemetry import get_logger

log = get_logger(__name__)

DURABLE = "registry-advisories"
_EXHAUSTED = "io.nats.jetstream.advisory.v1.max_deliver"
_BATCH = 50
_WAIT_SECONDS = 2.0


class AdvisoryCollector:
    """Turns each exhausted message into a dead letter and takes it off its work queue; the registry runs one.

    A handler's own failures are buried by the retry middleware. What ends here killed its process on every delivery, or
    could not be buried. `on_exhausted` gets the letter, so that a turn waiting on a command can be ended.
    """

    def __init__(self, link: NatsLink, *, on_exhausted: Callable[[Letter, str], Awaitable[None]] | None = None) -> None:
        self._link = link
        self._on_exhausted = on_exhausted
        self._consumer = BatchConsumer(link, DURABLE, _BATCH, _WAIT_SECONDS, self._handle)

    async def start(self) -> None:
        """Begin to collect."""
        await self._consumer.start()

    async def stop(self) -> None:
        """End collecting."""
        await self._consumer.stop()

    def check(self) -> str | None:
        """Readiness: None, or why nothing is collected."""
        return self._consumer.check()

    async def _handle(self, batch: list[RawMessage]) -> None:
        for message in batch:
            advisory = json.loads(message.data)
            if advisory.get("type") == _EXHAUSTED:
                await self._rescue(
                    advisory["stream"], advisory["consumer"], advisory["stream_seq"], advisory["deliveries"]
                )

    async def _rescue(self, stream: str, consumer: str, seq: int, deliveries: int) -> None:
        rows = [row for row in topology.CONSUMERS if row.durable == consumer and row.stream == stream]
        if not rows:
            log.warning("advisory about a consumer outside the topology", stream=stream, consumer=consumer, seq=seq)
            return
        js = self._link.js
        try:
            stored = await js.get_msg(stream, seq=seq)
        except NotFoundError:
            log.error("exhausted message is gone already", stream=stream, consumer=consumer, seq=seq)
            return
        except NatsError as error:
            raise translate(error, f"{stream}/{seq}", js) from error
        letter = Letter(stored.subject or "", stored.headers or {}, stored.data or b"", stream, seq, consumer)
        reason = f"ran out of deliveries after {deliveries}: its holder died or was drained each time"
        await dead_letter(js, letter, reason, deliveries)
        if self._on_exhausted is not None:
            await self._on_exhausted(letter, reason)
        if any(row.name == stream and row.work_queue for row in topology.STREAMS):
            # It would lie there for ever, seen by nobody, and come back beside its redriven copy.
            with suppress(NotFoundError):
                await js.delete_msg(stream, seq)
