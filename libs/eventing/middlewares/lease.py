"""Keeps a message leased while its handler runs, and hands it over when the process must go."""

import asyncio
from collections.abc import Container, Mapping
from typing import Any

import anyio
from faststream import BaseMiddleware
from faststream.exceptions import NackMessage
from faststream.nats import NatsMessage
from nats.errors import Error as NatsError

from libs.telemetry import get_logger

log = get_logger(__name__)

HANDOVER_DELAY = 0.2
CLEAN_UP_SECONDS = 10.0
"""What a cancelled handler may take to put its things away before its message is handed over regardless."""


class Inflight:
    """The tasks that run handlers, by durable, so that a drain can end them and wait for them."""

    def __init__(self) -> None:
        self._jobs: dict[asyncio.Task[Any], str] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    def enter(self, job: "asyncio.Task[Any]", durable: str) -> None:
        """`job` handles a message of `durable`."""
        self._jobs[job] = durable
        self._idle.clear()

    def leave(self, job: "asyncio.Task[Any]") -> None:
        """`job` ended and its message was answered."""
        self._jobs.pop(job, None)
        if not self._jobs:
            self._idle.set()

    def running(self, durable: str) -> int:
        """Handlers of `durable` at work now."""
        return sum(1 for held in self._jobs.values() if held == durable)

    def cancel(self, durables: Container[str]) -> None:
        """Cancel the handlers of `durables`."""
        for job, durable in self._jobs.items():
            if durable in durables:
                job.cancel()

    async def idle(self, seconds: float) -> bool:
        """Wait until no handler runs; False when some still did after `seconds`."""
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            return False
        return True


class LeaseMiddleware:
    """Beats `in_progress` every third of `ack_wait` (seconds, by durable); on cancellation gives the message back.

    The handler runs in a task of its own: FastStream's task group cancels again and again, and a handler that stops a
    training needs to be left alone while it does. The message goes back only after that.
    """

    def __init__(self, ack_waits: Mapping[str, float], inflight: Inflight) -> None:
        self._ack_waits = ack_waits
        self._inflight = inflight

    def __call__(self, msg: Any, /, *, context: Any) -> BaseMiddleware:
        """FastStream asks for one per message."""
        return _Lease(msg, context=context, ack_waits=self._ack_waits, inflight=self._inflight)


class _Lease(BaseMiddleware):  # type: ignore[misc]
    def __init__(self, msg: Any, /, *, context: Any, ack_waits: Mapping[str, float], inflight: Inflight) -> None:
        super().__init__(msg, context=context)
        self._ack_waits = ack_waits
        self._inflight = inflight

    async def consume_scope(self, call_next: Any, msg: NatsMessage) -> Any:
        """Hold the lease around what comes after."""
        durable = msg.raw_message.metadata.consumer
        job: asyncio.Task[Any] = asyncio.create_task(call_next(msg), name=f"handle-{durable}")
        beat = asyncio.create_task(_beat(msg, self._ack_waits[durable] / 3), name=f"lease-{durable}")
        self._inflight.enter(job, durable)
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                await _put_away(job, durable)
                if job.done() and not job.cancelled() and job.exception() is None:
                    await _answer(msg.ack(), durable)
                    raise
                await _answer(msg.nack(delay=HANDOVER_DELAY), durable)
            log.info("message handed over", consumer=durable)
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Only the handler was cancelled (a drain): the loop around it goes on to its own end.
            raise NackMessage(delay=HANDOVER_DELAY) from None
        finally:
            beat.cancel()
            self._inflight.leave(job)


async def _put_away(job: "asyncio.Task[Any]", durable: str) -> None:
    # Twice at most: nats-py may have swallowed the first, and cleaning up takes its time.
    for _ in range(2):
        if not job.done():
            job.cancel()
            await asyncio.wait({job}, timeout=CLEAN_UP_SECONDS / 2)
    if not job.done():
        log.error("a cancelled handler does not end; its message goes on without it", consumer=durable)


async def _answer(answer: Any, durable: str) -> None:
    try:
        await answer
    except NatsError as error:
        log.warning("answer not sent; the message returns after ack_wait", consumer=durable, reason=str(error))


async def _beat(msg: NatsMessage, every: float) -> None:
    # Not only until cancelled: nats-py swallows a cancellation that meets it while flushing.
    while not msg.raw_message.is_acked:
        await asyncio.sleep(every)
        try:
            await msg.in_progress()
        except NatsError as error:
            # The broker may come back before the lease ends; a lease lost meanwhile is the fencing epoch's business.
            log.warning("lease beat failed", reason=str(error))
