"""The constant watch: keeps what production was answered, closes user-windows and tells of drops."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from libs.contracts.answers import answer_digest
from libs.contracts.envelope import Envelope
from libs.contracts.errors import FailedPrecondition, InvalidInput, Transient
from libs.contracts.events import TaskApplied
from libs.contracts.inference import Inference, Role
from libs.eventing.batches import RawMessage
from libs.eventing.cloudevents import decode
from libs.eventing.subscriptions import Subscription
from libs.telemetry import counter, get_logger
from services.evaluator.domain.live import traits_of
from services.evaluator.domain.live_drop import DropState, DropWatch
from services.evaluator.domain.scoring import Validity, validity
from services.evaluator.store.live import CONSUMER, Live, LiveTask

log = get_logger(__name__)

_PRUNE_SECONDS = 3600.0
_UNWATCHED = (Role.CANDIDATE, Role.PREVIOUS)


@dataclass(slots=True)
class _Running:
    """A drop watch that has taken every window up to `taken`; begun anew whenever `key` changes."""

    key: Any
    watch: DropWatch
    taken: int


class LiveWatch:
    """Watches production of every task.

    Args:
        live: What is kept of it.
        caught_up: Until when (seconds since 1970) everything published has been read.
        keep: Seconds that requests are kept.
    """

    def __init__(self, live: Live, caught_up: Callable[[], Awaitable[float]], *, keep: float) -> None:
        self._live = live
        self._caught_up = caught_up
        self._keep = keep
        self._tasks: dict[tuple[str, str], LiveTask] = {}
        self._checks: dict[tuple[str, str], tuple[Any, Validity | None]] = {}
        self._running: dict[tuple[str, str], _Running | None] = {}
        self._closed: dict[tuple[str, str], int] = {}
        self._pruned_at = 0.0

    def subscription(self) -> Subscription:
        """The subscription to tasks."""
        return Subscription(CONSUMER, TaskApplied, self.task_applied)

    async def load(self) -> None:
        """Take up all tasks, at start and after a change."""
        self._tasks = {(task.tenant, task.task): task for task in await self._live.tasks()}

    async def task_applied(self, envelope: Envelope[TaskApplied]) -> None:
        """Keep the specification of a task."""
        await self._live.task_applied(envelope)
        await self.load()
        self._closed.clear()

    async def take_inferences(self, batch: Sequence[RawMessage]) -> None:
        """Write down what was answered, of tasks that are known, without its text."""
        rows = []
        for message in batch:
            tenant, _, task = message.subject.partition(".")[2].partition(".")
            known = self._tasks.get((tenant, task))
            if known is None:
                continue
            try:
                fact = decode(Inference, message.subject, message.data, message.headers).data
            except InvalidInput as error:
                # Ingestion reads the same stream and buries it; one dead letter is enough.
                counter("live_unreadable", "inferences that could not be read for the live view").inc()
                log.warning("inference not read", task=task, reason=str(error))
                continue
            if fact.role not in _UNWATCHED:
                rows.append(self._row(known, fact, message.stream_seq))
        await self._live.record(rows)

    async def run(self, every: float) -> None:
        """Look at all tasks each `every` seconds."""
        while True:
            await asyncio.sleep(every)
            try:
                await self.tick()
            except (Transient, FailedPrecondition) as error:
                # The broker may be away, or stand without its topology yet; readiness tells, and this waits.
                log.warning("live windows not closed", reason=str(error))

    async def tick(self) -> None:
        """Close the windows that ended and tell the drops they show."""
        if time.monotonic() - self._pruned_at > _PRUNE_SECONDS:
            await self._live.prune(time.time() - self._keep)
            self._pruned_at = time.monotonic()
        if not self._tasks:
            return
        until = await self._caught_up()
        for task in list(self._tasks.values()):
            name, live = (task.tenant, task.task), task.spec.rollout.live
            due = math.floor((until - live.delay_seconds) / live.window_seconds)
            if self._closed.get(name) == due and name in self._running:
                continue
            everything = False
            while not everything:
                _, everything = await self._live.close_windows(task, until)
            self._closed[name] = due
            await self._look_for_drops(task)

    def state(self, tenant: str, task: str) -> DropState | None:
        """How the drop watch of a task stands; None where the task asks for none."""
        running = self._running.get((tenant, task))
        return running.watch.state if running is not None else None

    async def _look_for_drops(self, task: LiveTask) -> None:
        spec = task.spec.triggers.on_drop
        name = (task.tenant, task.task)
        if spec is None:
            self._running[name] = None
            return
        reference = task.spec.rollout.live.reference_users
        key = (spec, reference, task.watch_from)
        running = self._running.get(name)
        if running is None or running.key != key:
            running = self._running[name] = _Running(key, DropWatch(spec, reference), task.watch_from)
        windows = await self._live.windows(task.tenant, task.task, running.taken)
        for window in windows:
            drop = running.watch.take(window)
            running.taken = window.number
            if drop is not None and await self._live.tell(task, drop):
                log.warning("drop", task=task.task, version=drop.version, e_value=drop.e_value, users=drop.users)

    def _row(self, task: LiveTask, fact: Inference, sequence: int) -> dict[str, Any]:
        whole = fact.error is None and bool(fact.finish_reason)
        question = next((m.content for m in reversed(fact.messages) if m.role == "user"), "")
        traits = traits_of(question, fact.output if whole else "", task.spec.rollout.live.refusals)
        valid = self._validity(task)
        return {
            "tenant": task.tenant,
            "task": task.task,
            "request_id": fact.request_id,
            "role": fact.role.value,
            "sequence": sequence,
            "version": fact.version,
            "generation": fact.generation,
            "explicit": fact.explicit,
            "unit": fact.unit,
            "segment": fact.segment,
            "pair_id": fact.pair_id,
            "answer_digest": answer_digest(fact.output),
            "valid": valid(fact.output) if valid is not None and whole else None,
            "failed": fact.error is not None,
            "whole": whole,
            "refused": whole and traits.refused,
            "latency_ms": fact.latency_ms,
            "first_token_ms": fact.first_token_ms,
            "prompt_tokens": fact.prompt_tokens,
            "completion_tokens": fact.completion_tokens,
            "input_chars": traits.input_chars,
            "output_chars": len(fact.output),
            "language": traits.language,
            "category": traits.category,
            "sketch": traits.sketch,
            "answered_at": fact.created_at.timestamp(),
        }

    def _validity(self, task: LiveTask) -> Validity | None:
        name, output = (task.tenant, task.task), task.spec.output
        held = self._checks.get(name)
        if held is None or held[0] != output:
            try:
                held = (output, validity(output))
            except InvalidInput as error:
                log.error("validity is not watched", task=task.task, reason=str(error))
                held = (output, None)
            self._checks[name] = held
        return held[1]
