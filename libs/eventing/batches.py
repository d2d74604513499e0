"""Batches off a stream for the hot path: raw messages in, one handler call, then the acknowledgements."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import MsgAlreadyAckdError
from nats.errors import TimeoutError as NatsTimeoutError

from libs.contracts.errors import PawlError, Permanent, Transient
from libs.eventing import topology
from libs.eventing.connection import NatsLink
from libs.eventing.deadletters import dead_letter
from libs.eventing.middlewares.retry import BLAMELESS, backoff, last_line
from libs.eventing.pull import GuardedPull, acknowledge, hand_back
from libs.eventing.tasks import end, launch
from libs.eventing.watchdog import Watchdog
from libs.telemetry import counter, get_logger

log = get_logger(__name__)

CRASH_LIMIT = 20
"""Deliveries of one message that never came to an end, after which it is buried untried."""
_SUSPICIOUS = 4
_EMPTY_NAMES: Mapping[str, str] = {}


class RawMessage(NamedTuple):
    """One message of a stream as it lies there; `delivered` counts deliveries, the first is 1.

    A tuple, which is made in a third of the time that a frozen dataclass takes.
    """

    raw: Msg
    subject: str
    headers: Mapping[str, str]
    data: bytes
    stream: str
    consumer: str
    stream_seq: int
    delivered: int
    timestamp_ns: int

    async def ack(self) -> None:
        """Done with it."""
        if not self.raw.is_acked:
            await self.raw.ack()

    async def nak(self, delay: float | None = None) -> None:
        """Deliver again, after `delay` seconds."""
        if not self.raw.is_acked:
            await self.raw.nak(delay=delay)

    async def term(self) -> None:
        """Never deliver again."""
        if not self.raw.is_acked:
            await self.raw.term()


BatchHandle = Callable[[list[RawMessage]], Awaitable["asyncio.Task[None] | None"]]
"""Returns None when all is done, or what must still come to its end before the acknowledgement (a confirmation that is
waited for, say): the next batch is handled meanwhile.
"""


class _Behind(NamedTuple):
    """A handled batch whose acknowledgement waits for the end of `left`."""

    batch: list[RawMessage]
    left: "asyncio.Task[None]"


class BatchConsumer:
    """Fetches up to `size` messages (waiting `wait` seconds for the first), hands them over, then acknowledges them.

    One batch is handled at a time; a full one means that more is there, and the next is fetched meanwhile. What a
    handler leaves to be waited for goes on beside the batch after it, and where that fails its batch is handled anew.
    The handler must be idempotent: an acknowledgement may be lost. While its failure is `BLAMELESS` the batch is held
    (leased by beats) and tried again in place with backoff: order is kept, no delivery is used up, an outage loses
    nothing. Any other failure is narrowed down by halving the batch; the message that fails alone becomes a dead letter
    when the error is `Permanent` or came back `attempts` times.
    """

    def __init__(
        self,
        link: NatsLink,
        durable: str,
        size: int,
        wait: float,
        handle: BatchHandle,
        *,
        attempts: int = 4,
        consumers: Sequence[topology.Consumer] = topology.CONSUMERS,
    ) -> None:
        self._link = link
        self._row = topology.consumer(durable, consumers)
        self._size = size
        self._wait = wait
        self._handle = handle
        self._attempts = attempts
        self._task: asyncio.Task[None] | None = None
        self._pull: GuardedPull | None = None
        self._stopping = asyncio.Event()
        self._held: list[RawMessage] = []
        self._ahead: list[RawMessage] = []
        self._behind: _Behind | None = None
        self._trouble: str | None = None
        self._failing_since = 0.0
        self._failures = 0
        self.watchdog = Watchdog(link, [self._row], lambda _: len(self._unacknowledged()))

    async def start(self) -> None:
        """Begin to consume in the background, now or once connected."""
        if self._task is None:
            self._task = launch(self.run(), f"batches-{self._row.durable}", self._link.fail)

    async def stop(self, grace: float = 5.0) -> None:
        """Finish the batch in hand within `grace` seconds, else hand it back."""
        self._stopping.set()
        if self._pull is not None:
            await self._pull.quiesce()
        await self.watchdog.stop()
        if self._task is None:
            return
        await asyncio.wait({self._task}, timeout=grace)
        await end(self._task)
        if self._pull is not None and self._link.connected:
            await self._pull.release()
            try:
                await self._link.client.flush(timeout=2)
            except NatsError as error:
                log.warning("nats flush at drain failed", reason=str(error))

    def check(self) -> str | None:
        """Readiness: None, or why nothing is consumed."""
        if self._task is not None and self._task.done() and not self._stopping.is_set():
            return f"batches of {self._row.durable} ended"
        return self.watchdog.check() or self._trouble

    async def run(self) -> None:
        """Consume until `stop`; `start` runs this in the background."""
        await self._link.wait_connected()
        pull = await self._link.js.pull_subscribe_bind(durable=self._row.durable, stream=self._row.stream)
        self._pull = pull
        self.watchdog.start()
        beat = launch(self._beat(), f"lease-{self._row.durable}", self._link.fail)
        coming: asyncio.Task[None] | None = None
        try:
            while not self._stopping.is_set():
                coming = coming or asyncio.create_task(self._fetch(pull), name=f"fetch-{self._row.durable}")
                await coming
                self._held, self._ahead = self._ahead, []
                full = len(self._held) == self._size
                coming = asyncio.create_task(self._fetch(pull)) if full else None
                if self._held:
                    await self._handled()
                if not full:
                    await self._settle()
            await self._settle()
        finally:
            await asyncio.shield(self._return(coming))
            await end(beat)

    async def _fetch(self, pull: GuardedPull) -> None:
        """Put what comes next into `_ahead`; nothing, where nothing comes."""
        with suppress(NatsTimeoutError):
            self._ahead = [read(message) for message in await pull.fetch_many(self._size, self._wait)]

    async def _return(self, coming: "asyncio.Task[None] | None") -> None:
        """Hand back what was fetched ahead, and what was left behind."""
        if coming is not None:
            # A pull that was told to stop comes back by itself, with nothing.
            await asyncio.wait({coming}, timeout=self._wait)
            await end(coming)
        back, self._ahead = self._ahead, []
        if self._behind is not None:
            await end(self._behind.left)
            back += [message for message in self._behind.batch if not message.raw.is_acked]
            self._behind = None
        if back and self._link.connected:
            await hand_back([message.raw for message in back])

    async def _handled(self) -> None:
        try:
            await self._take(self._held)
        except asyncio.CancelledError:
            await asyncio.shield(hand_back([held.raw for held in self._held if not held.raw.is_acked]))
            raise
        finally:
            self._held = []

    async def _take(self, batch: list[RawMessage]) -> None:
        crashed = [message for message in batch if message.delivered > CRASH_LIMIT]
        for message in crashed:
            await self._bury(message, f"delivered {message.delivered} times without an end")
        rest = [message for message in batch if message.delivered <= CRASH_LIMIT]
        # A message that may have killed its holder goes alone, so that it takes no others down with it.
        suspects = [message for message in rest if message.delivered > _SUSPICIOUS]
        plain = [message for message in rest if message.delivered <= _SUSPICIOUS]
        left = await self._try(plain, wait=False)
        try:
            await self._settle()
        except asyncio.CancelledError:
            await end(left)
            raise
        self._behind = _Behind(plain, left) if left is not None else None
        for message in suspects:
            await self._try([message])

    async def _settle(self) -> None:
        """Acknowledge what was left behind once it is done; handle it anew where that failed."""
        if self._behind is None:
            return
        try:
            await self._behind.left
        except Exception as error:  # noqa: BLE001 - whatever it is, the batch is tried as one that failed
            log.warning("batch tried anew", consumer=self._row.durable, reason=last_line(error))
            await self._try(self._behind.batch)
        else:
            await self._acknowledge(self._behind.batch)
        self._behind = None

    async def _try(self, batch: list[RawMessage], *, wait: bool = True) -> "asyncio.Task[None] | None":
        """Handle and acknowledge; unless told to `wait`, what the handler left to be waited for comes back instead."""
        if not batch:
            return None
        failure: Exception = Permanent("no attempt was made")
        tries = 0
        while tries < (self._attempts if len(batch) == 1 else 1):
            try:
                left = await self._handle(batch)
                if left is not None and not wait:
                    return left
                if left is not None:
                    await left
                await self._acknowledge(batch)
                return None
            except BLAMELESS as error:
                await self._hold(error)
            except Permanent as error:
                failure = error
                break
            except Exception as error:  # noqa: BLE001 - the handler is the process's boundary for one batch
                log.error("batch handler broke", consumer=self._row.durable, rows=len(batch), reason=last_line(error))
                failure = error
                tries += 1
                await asyncio.sleep(backoff(tries) if len(batch) == 1 else 0)
        if len(batch) == 1:
            await self._bury(batch[0], last_line(failure))
            return None
        middle = len(batch) // 2
        await self._try(batch[:middle])
        await self._try(batch[middle:])
        return None

    async def _hold(self, error: PawlError) -> None:
        now = time.monotonic()
        self._failing_since = self._failing_since if self._trouble else now
        self._failures = self._failures + 1 if self._trouble else 1
        self._trouble = f"{self._row.durable} waits: {error.reason}: {error}"
        log.warning(
            "batch held", consumer=self._row.durable, reason=str(error), seconds=round(now - self._failing_since)
        )
        if self._stopping.is_set():
            raise asyncio.CancelledError
        try:
            await asyncio.wait_for(self._stopping.wait(), backoff(self._failures))
        except TimeoutError:
            return
        raise asyncio.CancelledError

    async def _acknowledge(self, batch: list[RawMessage]) -> None:
        self._trouble = None
        try:
            await acknowledge(self._link.client, [message.raw for message in batch])
        except (NatsError, MsgAlreadyAckdError) as error:
            log.warning("acknowledgement lost; the rows come again", consumer=self._row.durable, reason=str(error))
        counter("batch_messages", "messages handled in batches", ["consumer"]).labels(self._row.durable).inc(len(batch))

    async def _bury(self, message: RawMessage, reason: str) -> None:
        while True:
            try:
                await dead_letter(self._link.js, message, reason, message.delivered)
                await message.term()
                return
            except Transient as error:
                await self._hold(error)

    def _unacknowledged(self) -> list[RawMessage]:
        return [*(self._behind.batch if self._behind is not None else []), *self._held]

    async def _beat(self) -> None:
        """Lease what is in hand, before it and behind it; until `end`ed."""
        while True:
            await asyncio.sleep(self._row.ack_wait / 3)
            try:
                for message in [*self._unacknowledged(), *self._ahead]:
                    if not message.raw.is_acked:
                        await message.raw.in_progress()
            except NatsError as error:
                log.warning("lease beat failed", reason=str(error))


def read(message: Msg) -> RawMessage:
    """Lift a delivered message; its reply is `$JS.ACK.<stream>.<consumer>.<delivered>.<seq>...`."""
    tokens = message.reply.split(".")
    # With a domain, two more tokens stand in front of the stream (ADR-15).
    at = 2 if len(tokens) == 9 else 4
    stream, consumer, delivered, stream_seq, _, timestamp_ns = tokens[at : at + 6]
    return RawMessage(
        message, message.subject, message.headers or _EMPTY_NAMES, message.data,
        stream, consumer, int(stream_seq), int(delivered), int(timestamp_ns),
    )  # fmt: skip
