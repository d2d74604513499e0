"""Keeps a message leased while its handler runs, and hands it over when the process must go."""

import asyncio
from collections.abc import Mapping
from typing import Any

from faststream import BaseMiddleware
from faststream.nats import NatsMessage
from nats.errors import Error as NatsError

from libs.telemetry import get_logger

log = get_logger(__name__)

HANDOVER_DELAY = 0.2


class Inflight:
    """How many handlers run, per durable, so that a drain can wait for their end."""

    def __init__(self) -> None:
        self._running: dict[str, int] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    def enter(self, durable: str) -> None:
        """A handler of `durable` begins."""
        self._running[durable] = self._running.get(durable, 0) + 1
        self._idle.clear()

    def leave(self, durable: str) -> None:
        """A handler of `durable` ended."""
        self._running[durable] -= 1
        if not any(self._running.values()):
            self._idle.set()

    def running(self, durable: str) -> int:
        """Handlers of `durable` at work now."""
        return self._running.get(durable, 0)

    async def idle(self) -> None:
        """Return when no handler runs."""
        await self._idle.wait()


class LeaseMiddleware:
    """Beats `in_progress` every third of `ack_wait` (seconds, by durable); on cancellation gives the message back."""

    def __init__(self, ack_waits: Mapping[str, float], inflight: Inflight) -> None:
        self._ack_waits = ack_waits
        self._inflight = inflight

    def __call__(self, msg: Any, /, *, context: Any) -> BaseMiddleware:
        return _Lease(msg, context=context, ack_waits=self._ack_waits, inflight=self._inflight)


class _Lease(BaseMiddleware):  # type: ignore[misc]
    def __init__(self, msg: Any, /, *, context: Any, ack_waits: Mapping[str, float], inflight: Inflight) -> None:
        super().__init__(msg, context=context)
        self._ack_waits = ack_waits
        self._inflight = inflight

    async def consume_scope(self, call_next: Any, msg: NatsMessage) -> Any:
        """Hold the lease around what comes after."""
        durable = msg.raw_message.metadata.consumer
        beat = asyncio.create_task(_beat(msg, self._ack_waits[durable] / 3), name=f"lease-{durable}")
        self._inflight.enter(durable)
        try:
            return await call_next(msg)
        except asyncio.CancelledError:
            # Shielded: the cancellation that takes the handler must not take the hand-over too.
            await asyncio.shield(_hand_over(msg, durable))
            raise
        finally:
            beat.cancel()
            self._inflight.leave(durable)


async def _beat(msg: NatsMessage, every: float) -> None:
    while True:
        await asyncio.sleep(every)
        try:
            await msg.in_progress()
        except NatsError as error:
            # The broker may come back before the lease ends; a lease lost meanwhile is the fencing epoch's business.
            log.warning("lease beat failed", reason=str(error))


async def _hand_over(msg: NatsMessage, durable: str) -> None:
    try:
        await msg.nack(delay=HANDOVER_DELAY)
        log.info("message handed over", consumer=durable)
    except NatsError as error:
        log.warning("hand-over failed; the message returns after ack_wait", consumer=durable, reason=str(error))
