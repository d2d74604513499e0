"""Events and collectors for this library's tests."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from libs.contracts.envelope import Envelope, Event, envelop
from libs.contracts.events import SegmentWritten
from libs.eventing import topology
from libs.eventing.connection import NatsLink
from libs.eventing.publish import publish

TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


class Work(Event):
    """A command small enough for tests; it stands where `cmd.trainer.train.v1` does."""

    subject = "cmd.trainer.train.v1"

    number: int = 0


def segment(number: int = 1, tenant: str = "default") -> SegmentWritten:
    return SegmentWritten(tenant=tenant, task="triage", number=number, digest="sha256:" + "0" * 64, rows=1, kinds={})


async def say(link: NatsLink, payload: Event, **more: Any) -> Envelope[Any]:
    envelope = envelop(payload, source="test", **more)
    await publish(link.js, envelope)
    return envelope


def table(durable: str, **changes: Any) -> list[topology.Consumer]:
    """The topology's consumers with one of them changed."""
    return [replace(row, **changes) if row.durable == durable else row for row in topology.CONSUMERS]


class Recorder:
    """A handler that notes when it was called, with what, and does then what it is told."""

    def __init__(self, *outcomes: Exception | Callable[[], Awaitable[None]] | None) -> None:
        self._outcomes = list(outcomes)
        self.events: list[Envelope[Any]] = []
        self.times: list[float] = []
        self.finished = 0

    async def __call__(self, envelope: Envelope[Any]) -> None:
        self.events.append(envelope)
        self.times.append(asyncio.get_running_loop().time())
        outcome = self._outcomes.pop(0) if len(self._outcomes) > 1 else (self._outcomes or [None])[0]
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is not None:
            await outcome()
        self.finished += 1

    @property
    def numbers(self) -> list[int]:
        return [envelope.data.number for envelope in self.events]

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]


__all__ = ["TRACE", "Recorder", "Work", "say", "segment", "table"]
