"""Subscriptions to lifecycle events: one durable, one message at a time, leased, retried, drained."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from faststream import AckPolicy
from faststream.nats import JStream, PullSub
from nats.errors import Error as NatsError

from libs.contracts.envelope import Envelope, Event
from libs.contracts.errors import FailedPrecondition, PawlError
from libs.eventing import topology
from libs.eventing.connection import NatsLink
from libs.eventing.deadletters import Letter, dead_letter
from libs.eventing.middlewares.cloudevents import CloudEventsMiddleware, Models
from libs.eventing.middlewares.lease import Inflight, LeaseMiddleware
from libs.eventing.middlewares.retry import PATIENCE, RetryMiddleware
from libs.eventing.tasks import end, launch
from libs.eventing.watchdog import Watchdog
from libs.telemetry import get_logger

log = get_logger(__name__)

POLL_SECONDS = 2.0
"""A request's life: what a broker restart can delay a waiting consumer by."""
_HANDOVER_SECONDS = 10.0

Handle = Callable[[Envelope[Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Subscription:
    """What handles the messages of one durable of the topology.

    `model` is one payload model, or a tuple of them dispatched by type; with a tuple, types it does not know are
    acknowledged and counted. `long_running` handlers are cancelled at once on drain, not given the grace of short ones.
    `on_dead` runs with the reason after a message became a dead letter (a permanent error, or deliveries ran out), so
    that the service can publish the failure as a fact.
    """

    durable: str
    model: type[Event] | tuple[type[Event], ...]
    handle: Handle
    long_running: bool = False
    on_dead: Callable[[Letter, str], Awaitable[None]] | None = None


class Consumers:
    """All lifecycle subscriptions of a process, with its watchdog.

    Args:
        link: The process's link; may still be dialling.
        subscriptions: One per durable; each durable must belong to `service`.
        service: Name in the topology.
        patience: Seconds a message on its last delivery is held through a transient failure.
        watchdog: Instead of one with the usual patience.
        consumers: Instead of the topology's table.
    """

    def __init__(
        self,
        link: NatsLink,
        subscriptions: Sequence[Subscription],
        *,
        service: str,
        patience: float = PATIENCE,
        watchdog: Watchdog | None = None,
        consumers: Sequence[topology.Consumer] = topology.CONSUMERS,
    ) -> None:
        self._link = link
        self._subscriptions = {row.durable: row for row in subscriptions}
        if len(self._subscriptions) != len(subscriptions):
            raise FailedPrecondition("two subscriptions share a durable", field="subscriptions")
        rows = {durable: topology.consumer(durable, consumers) for durable in self._subscriptions}
        for durable, row in rows.items():
            if row.service != service:
                raise FailedPrecondition(f"{durable} belongs to {row.service}, not {service}", field="subscriptions")
        self._inflight = Inflight()
        self._models = {durable: Models(row.model) for durable, row in self._subscriptions.items()}
        self._starting: asyncio.Task[None] | None = None
        self._stopped = False
        self.watchdog = watchdog or Watchdog(link, list(rows.values()), self._inflight.running)
        broker = link.broker
        for middleware in (
            LeaseMiddleware({name: row.ack_wait for name, row in rows.items()}, self._inflight),
            RetryMiddleware({name: row.max_deliver for name, row in rows.items()}, self._bury, patience=patience),
            CloudEventsMiddleware(self._models),
        ):
            broker.add_middleware(middleware)
        for durable, subscription in self._subscriptions.items():
            self._register(subscription, rows[durable], self._models[durable])

    async def start(self) -> None:
        """Begin to consume, now or as soon as the first connection stands."""
        if self._link.connected:
            await self._begin()
        else:
            self._starting = launch(self._begin_when_connected(), "consumers-start", self._link.fail)

    async def stop(self) -> None:
        """Drain: take nothing more, give short handlers their grace, cancel the rest and hand their messages over."""
        if self._stopped:
            return
        self._stopped = True
        await self.watchdog.stop()
        await end(self._starting)
        if not self._link.broker.running:
            return
        pulls = self._link.js.pulls
        await asyncio.gather(*(pulls[durable].quiesce() for durable in self._subscriptions if durable in pulls))
        self._inflight.cancel({name for name, row in self._subscriptions.items() if row.long_running})
        await asyncio.gather(*(self._stop_one(subscriber) for subscriber in self._link.broker.subscribers))
        if not await self._inflight.idle(_HANDOVER_SECONDS):
            log.warning("handlers outlived the drain")
        for durable in self._subscriptions:
            if durable in pulls and self._link.connected:
                await pulls[durable].release()
        if self._link.connected:
            try:
                await self._link.client.flush(timeout=2)
            except NatsError as error:
                log.warning("nats flush at drain failed", reason=str(error))

    def check(self) -> str | None:
        """Readiness: None, or which consumer is missing, deaf or stalled."""
        return self.watchdog.check()

    def _register(self, subscription: Subscription, row: topology.Consumer, models: Models) -> None:
        async def handler(envelope: Envelope[Any]) -> None:
            await subscription.handle(envelope)

        subscriber = self._link.broker.subscriber(
            subject=row.subjects[0],
            durable=row.durable,
            stream=JStream(row.stream, declare=False),
            pull_sub=PullSub(batch_size=1, timeout=POLL_SECONDS),
            ack_policy=AckPolicy.NACK_ON_ERROR,
            decoder=models.decode,
            no_reply=True,
            title=row.durable,
        )
        subscriber(handler)

    async def _bury(self, letter: Letter, reason: str, deliveries: int) -> None:
        await dead_letter(self._link.js, letter, reason, deliveries)
        on_dead = self._subscriptions[letter.consumer].on_dead
        if on_dead is not None:
            await on_dead(letter, reason)

    async def _begin(self) -> None:
        await self._link.broker.start()
        self.watchdog.start()
        log.info("consuming", consumers=sorted(self._subscriptions))

    async def _begin_when_connected(self) -> None:
        await self._link.wait_connected()
        await self._begin()

    async def _stop_one(self, subscriber: Any) -> None:
        try:
            await subscriber.stop()
        except (NatsError, PawlError) as error:
            log.warning("subscription did not stop cleanly", reason=str(error))
