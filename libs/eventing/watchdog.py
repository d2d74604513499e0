"""Watches that consumers exist and are polled, since the client stays silent when they are not."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence

from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from libs.eventing.connection import NatsLink
from libs.eventing.tasks import end, launch
from libs.eventing.topology import Consumer
from libs.telemetry import gauge, get_logger

log = get_logger(__name__)

LOOK_SECONDS = 2.0
STALL_SECONDS = 15.0
HEAL_SECONDS = 60.0


def _exit() -> None:
    os._exit(71)


class Watchdog:
    """Says in `check` what is wrong with the consumers of a process; ends the process if a wedged loop does not heal.

    A missing consumer or an absent broker makes the process unready, no more: a restart would not bring them back. A
    loop that neither polls nor handles while the broker is there is ours, and a restart helps.

    Args:
        running: Handlers at work per durable; a loop busy with one is not stalled.
        stall_seconds: A loop that came back from no request for so long is stalled.
        heal_seconds: How long a stall may last before `on_wedged` (by default the end of the process).
    """

    def __init__(
        self,
        link: NatsLink,
        consumers: Sequence[Consumer],
        running: Callable[[str], int],
        *,
        look_seconds: float = LOOK_SECONDS,
        stall_seconds: float = STALL_SECONDS,
        heal_seconds: float = HEAL_SECONDS,
        on_wedged: Callable[[], None] = _exit,
    ) -> None:
        self._link = link
        self._consumers = list(consumers)
        self._running = running
        self._look_seconds = look_seconds
        self._stall_seconds = stall_seconds
        self._heal_seconds = heal_seconds
        self._on_wedged = on_wedged
        self._task: asyncio.Task[None] | None = None
        self._ended = False
        self._reasons: dict[str, str] = {}
        self._stalled_since: dict[str, float] = {}
        self._seen_busy: dict[str, float] = {}

    def start(self) -> None:
        """Begin to look."""
        if self._task is None:
            self._task = launch(self._look_on(), "watchdog", self._link.fail)

    async def stop(self) -> None:
        """End looking."""
        self._ended = True
        await end(self._task)
        self._task = None

    def check(self) -> str | None:
        """Readiness: None, or the first reason not to be ready."""
        broken = self._link.check()
        if broken:
            return broken
        if self._task is None:
            return "consumers: not started"
        return next(iter(self._reasons.values()), None)

    async def _look_on(self) -> None:
        while not self._ended:
            for consumer in self._consumers:
                await self._look_at(consumer)
            await asyncio.sleep(self._look_seconds)

    async def _look_at(self, consumer: Consumer) -> None:
        if not self._link.connected:
            self._stalled_since.clear()
            return
        reason = await self._missing(consumer) or self._stalled(consumer)
        known = self._reasons.get(consumer.durable)
        if reason and reason != known:
            log.error("consumer unwell", consumer=consumer.durable, reason=reason)
        if known and not reason:
            log.info("consumer well again", consumer=consumer.durable)
        if reason:
            self._reasons[consumer.durable] = reason
        else:
            self._reasons.pop(consumer.durable, None)
        gauge("consumer_ready", "1 when the consumer exists and is polled", ["consumer"]).labels(consumer.durable).set(
            0 if reason else 1
        )

    async def _missing(self, consumer: Consumer) -> str | None:
        try:
            info = await self._link.js.consumer_info(consumer.stream, consumer.durable, timeout=5)
        except NotFoundError:
            return f"consumer {consumer.durable} of stream {consumer.stream} does not exist: apply the topology"
        except NatsError as error:
            # A late answer is the link's trouble, not the consumer's.
            log.warning("consumer not seen", consumer=consumer.durable, reason=str(error))
            return self._reasons.get(consumer.durable)
        gauge("consumer_pending", "messages waiting for the consumer", ["consumer"]).labels(consumer.durable).set(
            info.num_pending or 0
        )
        return None

    def _stalled(self, consumer: Consumer) -> str | None:
        pull = self._link.js.pulls.get(consumer.durable)
        now = time.monotonic()
        if self._running(consumer.durable):
            # A loop that has just handled something for minutes is about to poll again.
            self._seen_busy[consumer.durable] = now
        if pull is None:
            quiet = self._stall_seconds + 1
        else:
            quiet = now - max(pull.last_returned, self._seen_busy.get(consumer.durable, 0.0))
        if quiet <= self._stall_seconds:
            self._stalled_since.pop(consumer.durable, None)
            return None
        since = self._stalled_since.setdefault(consumer.durable, now)
        if now - since > self._heal_seconds:
            log.error("consumer loop wedged", consumer=consumer.durable, seconds=round(quiet))
            self._on_wedged()
        return f"consumer {consumer.durable} has not been polled for {quiet:.0f} s"
