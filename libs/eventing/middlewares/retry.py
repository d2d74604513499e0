"""Decides what a failed handler's message becomes: tried again later, held, or a dead letter."""

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from faststream import BaseMiddleware
from faststream.exceptions import HandlerException, NackMessage, RejectMessage
from faststream.nats import NatsMessage
from nats.aio.msg import Msg

from libs.contracts.errors import PawlError, Permanent, PermissionDenied, Transient, Unauthenticated
from libs.eventing.deadletters import Letter
from libs.telemetry import counter, get_logger

log = get_logger(__name__)

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
PATIENCE = 3600.0
"""Seconds a message on its last delivery is held while the reason is transient."""

BLAMELESS = (Transient, Unauthenticated, PermissionDenied)
"""Failures that no message is to blame for. Nobody asks a handler, so that who is refused is this process."""

Bury = Callable[[Letter, str, int], Awaitable[None]]


def backoff(deliveries: int) -> float:
    """Seconds until the next try after `deliveries` failed ones: 0.5, 1, 2 ... 30."""
    return float(min(FIRST_DELAY * 2.0 ** min(max(deliveries - 1, 0), 10), LONGEST_DELAY))


def last_line(error: BaseException) -> str:
    """What went wrong in one line, for people reading dead letters: reason and field, or type and place."""
    if isinstance(error, PawlError):
        return ": ".join(part for part in (error.reason, error.field, error.message) if part)
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" at {place[0].filename.rsplit('/', 1)[-1]}:{place[0].lineno}" if place else ""
    return f"{type(error).__name__}: {error}{where}"


def letter_of(raw: Msg) -> Letter:
    """The parts of a delivered message a dead letter keeps."""
    found = raw.metadata
    return Letter(raw.subject, raw.headers or {}, raw.data, found.stream, found.sequence.stream, found.consumer)


class RetryMiddleware:
    """Between lease and CloudEvents: what is held stays leased.

    - `BLAMELESS` (a dependency is away, or refuses our credentials): given back with a growing delay. On the last
      delivery it is held and tried again in place, up to `patience` seconds: a long outage of a database must not turn
      facts into dead letters.
    - Any other `Permanent`: a dead letter at once.
    - Anything else is a bug: given back until deliveries run out, then a dead letter with the traceback's last line.
    """

    def __init__(self, deliveries: Mapping[str, int], bury: Bury, *, patience: float = PATIENCE) -> None:
        self._deliveries = deliveries
        self._bury = bury
        self._patience = patience

    def __call__(self, msg: Any, /, *, context: Any) -> BaseMiddleware:
        """FastStream asks for one per message."""
        return _Retry(msg, context=context, deliveries=self._deliveries, bury=self._bury, patience=self._patience)


class _Retry(BaseMiddleware):  # type: ignore[misc]
    def __init__(
        self, msg: Any, /, *, context: Any, deliveries: Mapping[str, int], bury: Bury, patience: float
    ) -> None:
        super().__init__(msg, context=context)
        self._deliveries = deliveries
        self._bury = bury
        self._patience = patience

    async def consume_scope(self, call_next: Any, msg: NatsMessage) -> Any:
        """Run what comes after and decide what its failure means."""
        metadata = msg.raw_message.metadata
        limit = self._deliveries[metadata.consumer]
        last = 0 < limit <= metadata.num_delivered
        held_until = time.monotonic() + (self._patience if last else 0.0)
        attempt = metadata.num_delivered
        while True:
            try:
                result = await call_next(msg)
                handled("ok", metadata.consumer)
                return result
            except HandlerException:
                raise
            except BLAMELESS as error:
                delay = backoff(attempt)
                log.warning(
                    "handler failed, will retry", consumer=metadata.consumer, reason=last_line(error),
                    deliveries=metadata.num_delivered, delay=delay,
                )  # fmt: skip
                handled("retried", metadata.consumer)
                if not last:
                    raise NackMessage(delay=delay) from error
                if time.monotonic() > held_until:
                    await self._give_up(
                        msg, f"still failing after {metadata.num_delivered} deliveries: {last_line(error)}"
                    )
                attempt += 1
                await asyncio.sleep(delay)
            except Permanent as error:
                await self._give_up(msg, last_line(error))
            except Exception as error:  # a handler is the process's boundary for one message
                reason = last_line(error)
                log.error(
                    "handler broke", consumer=metadata.consumer, reason=reason,
                    deliveries=metadata.num_delivered, traceback="".join(traceback.format_exception(error))[-4000:],
                )  # fmt: skip
                if last:
                    await self._give_up(msg, reason)
                handled("retried", metadata.consumer)
                raise NackMessage(delay=backoff(metadata.num_delivered)) from error

    async def _give_up(self, msg: NatsMessage, reason: str) -> None:
        raw = msg.raw_message
        try:
            await self._bury(letter_of(raw), reason, raw.metadata.num_delivered)
        except Exception as error:  # what a service does about a dead letter is its own code, as a handler is
            # Nothing may vanish: without its copy the original stays, and on its last delivery the broker's advisory
            # brings it to the dead letters.
            log.error("dead letter not stored", consumer=raw.metadata.consumer, reason=last_line(error))
            raise NackMessage(delay=backoff(raw.metadata.num_delivered)) from error
        handled("dead", raw.metadata.consumer)
        raise RejectMessage


def handled(outcome: str, consumer: str) -> None:
    """Count one handled message; outcome is ok, retried or dead."""
    counter("events_handled", "messages handled, by outcome", ["consumer", "outcome"]).labels(consumer, outcome).inc()
