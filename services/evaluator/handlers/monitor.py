"""The live monitor: keeps the ledger of each open watch and publishes what it shows."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from libs.contracts.answers import answer_digest
from libs.contracts.envelope import Envelope
from libs.contracts.errors import Conflict, InvalidInput, Transient
from libs.contracts.events import Assessment, RolloutChanged
from libs.contracts.inference import Inference, Outcome, Role
from libs.eventing.batches import RawMessage
from libs.eventing.cloudevents import decode
from libs.eventing.subscriptions import Subscription
from libs.telemetry import counter, gauge, get_logger, span
from services.evaluator.domain.evidence import CANARY, SHADOW, Watch
from services.evaluator.domain.scoring import Validity, validity
from services.evaluator.store.ledger import CONSUMER, Ledger

log = get_logger(__name__)

INFERENCES = "evaluator-inference"
OUTCOMES = "evaluator-outcome"
_REPEAT_SECONDS = 10.0
_PRUNE_SECONDS = 3600.0

Unhandled = Callable[[str], Awaitable[int]]


class Monitor:
    """Watches rollouts.

    Args:
        ledger: The evidence.
        unhandled: How many messages of a durable are not handled yet.
        settle: Seconds after its end that a user-window waits for outcomes under way.
        keep: Seconds that the evidence of an ended rollout is kept.
    """

    def __init__(self, ledger: Ledger, unhandled: Unhandled, *, settle: float, keep: float) -> None:
        self._ledger = ledger
        self._unhandled = unhandled
        self._settle = settle
        self._keep = keep
        self._watches: dict[tuple[str, str], list[Watch]] = {}
        self._checks: dict[tuple[str, str, int], Validity | None] = {}
        self._read_until = {INFERENCES: 0.0, OUTCOMES: 0.0}
        self._changed: set[str] = set()
        self._said: dict[tuple[str, str, int], tuple[float, dict[str, Any]]] = {}
        self._pruned_at = 0.0

    def subscription(self) -> Subscription:
        """The subscription to changes of rollouts."""
        return Subscription(CONSUMER, RolloutChanged, self.rollout_changed)

    async def load(self) -> None:
        """Take up the watches that were open when this process, or the one before it, stopped."""
        found: dict[tuple[str, str], list[Watch]] = {}
        for watch in await self._ledger.watches():
            found.setdefault(watch.key, []).append(watch)
        self._watches = found
        self._changed.update(row[-1].turn_id for row in found.values())
        live = {(watch.tenant, watch.task, watch.generation) for row in found.values() for watch in row}
        self._said = {key: said for key, said in self._said.items() if key in live}
        self._checks = {key: check for key, check in self._checks.items() if key in live}
        gauge("watches_open", "rollout stages under watch").set(len(found))

    def open_watches(self) -> list[Watch]:
        """The stages under watch now, one per task in a rollout."""
        return [steps[-1] for steps in self._watches.values()]

    async def rollout_changed(self, envelope: Envelope[RolloutChanged]) -> None:
        """Begin or end a watch."""
        await self._ledger.rollout_changed(envelope)
        await self.load()

    async def take_inferences(self, batch: Sequence[RawMessage]) -> None:
        """Write what production was answered, by stable, canary and shadow, into the ledger."""
        rows: list[dict[str, Any]] = []
        touched: set[str] = set()
        opened: list[dict[str, Any]] = []
        for message in batch:
            steps = self._watches.get(_address(message.subject, "inference"))
            if not steps:
                continue
            fact = decode(Inference, message.subject, message.data, message.headers).data
            step = _step(steps, fact.generation)
            if step is None or fact.explicit or not _takes_part(step, fact):
                continue
            row = self._request(step, fact, message.stream_seq)
            rows.append(row)
            touched.add(step.turn_id)
            if step.stage == CANARY and fact.role is not Role.SHADOW:
                opened.append(_window(step, row, fact.segment))
        # A unit's window opens at its first request; within a batch the earliest must come first.
        opened.sort(key=lambda row: float(row["opened_at"]))
        await self._ledger.record_requests(rows, opened, max((m.stream_seq for m in batch), default=0))
        # Only after the commit: a look in between would see nothing new and clear the mark.
        self._changed |= touched
        self._note(INFERENCES, batch)

    async def take_outcomes(self, batch: Sequence[RawMessage]) -> None:
        """Write how answers turned out into the ledger."""
        rows: list[dict[str, Any]] = []
        touched: set[str] = set()
        for message in batch:
            # Of every task: the live view wants them too, rollout or not.
            tenant, task = address = _address(message.subject, "outcome")
            fact = decode(Outcome, message.subject, message.data, message.headers).data
            steps = self._watches.get(address)
            if steps:
                touched.add(steps[-1].turn_id)
            rows.append(
                {
                    "tenant": tenant,
                    "task": task,
                    "source": fact.source,
                    "feedback_id": fact.feedback_id,
                    "request_id": fact.request_id,
                    "signal": fact.signal.value,
                    "kind": fact.kind,
                    "reference_digest": fact.reference_digest,
                    "sequence": message.stream_seq,
                    "arrived_at": time.time(),
                }
            )
        late = await self._ledger.record_outcomes(rows, max((m.stream_seq for m in batch), default=0))
        if late:
            counter("outcomes_late", "bad outcomes that came after their user-window was closed").inc(late)
        self._changed |= touched
        self._note(OUTCOMES, batch)

    async def run(self, every: float) -> None:
        """Look at the open watches each `every` seconds."""
        while True:
            await asyncio.sleep(every)
            try:
                await self.tick()
            except Transient as error:
                log.warning("watches not assessed", reason=str(error))

    async def tick(self) -> None:
        """Close the windows that ended and publish what changed, at least every ten seconds."""
        if time.monotonic() - self._pruned_at > _PRUNE_SECONDS:
            await self._ledger.prune(time.time() - self._keep)
            self._pruned_at = time.monotonic()
        for watch in self.open_watches():
            with span("assess", parent=watch.traceparent, task=watch.task, stage=watch.stage):
                await self._assess(watch)

    async def _assess(self, watch: Watch) -> None:
        key = (watch.tenant, watch.task, watch.generation)
        said_at, said = self._said.get(key, (-math.inf, {}))
        if watch.stage == CANARY:
            closed = await self._ledger.close_windows(watch.turn_id, await self.caught_up() - self._settle)
            if closed:
                self._changed.add(watch.turn_id)
        if watch.turn_id not in self._changed and time.monotonic() - said_at < _REPEAT_SECONDS:
            return
        self._changed.discard(watch.turn_id)
        try:
            assessment = await self.assessment(watch)
            content = assessment.model_dump(exclude={"assessed_at"})
            if content == said and time.monotonic() - said_at < _REPEAT_SECONDS:
                return
            await self._ledger.publish(watch, assessment)
        except Conflict:
            log.info("another replica assessed first", task=watch.task, generation=watch.generation)
        except Transient:
            self._changed.add(watch.turn_id)
            raise
        else:
            self._said[key] = (time.monotonic(), content)
            if said.get("verdict") != assessment.verdict:
                verdict, reason = assessment.verdict.value, assessment.reason
                log.info("assessed", task=watch.task, stage=watch.stage, verdict=verdict, reason=reason)

    async def assessment(self, watch: Watch) -> Assessment:
        """What the ledger shows for a watch now; nothing but the ledger enters."""
        mark = await self._ledger.mark(watch.turn_id)
        return await self._ledger.recompute(watch, mark, datetime.now(UTC))

    async def caught_up(self) -> float:
        """Until when (seconds since 1970) everything that was published has been read.

        After an outage the windows of the past may be closed only once their outcomes have been read too.
        """
        now = time.time()
        until = now
        for durable, read in self._read_until.items():
            if await self._unhandled(durable):
                until = min(until, read)
        return until

    def _request(self, step: Watch, fact: Inference, sequence: int) -> dict[str, Any]:
        # What a client broke off has no error and no reason to have ended: half an answer is not an invalid one.
        whole = fact.error is None and bool(fact.finish_reason)
        valid = self._validity(step)
        challenger = fact.role is Role.CANARY
        probability = fact.assignment_probability
        return {
            "tenant": step.tenant,
            "task": step.task,
            "request_id": fact.request_id,
            "role": fact.role.value,
            "turn_id": step.turn_id,
            "generation": step.generation,
            "version": fact.version,
            "unit": fact.unit,
            "rho": probability if challenger else 1.0 - probability,
            "pair_id": fact.pair_id,
            "answer_digest": answer_digest(fact.output),
            "valid": valid(fact.output) if valid is not None and whole else None,
            "failed": fact.error is not None,
            "whole": whole,
            "answered_at": fact.created_at.timestamp(),
            "sequence": sequence,
        }

    def _validity(self, step: Watch) -> Validity | None:
        key = (step.tenant, step.task, step.generation)
        if key not in self._checks:
            try:
                self._checks[key] = validity(step.spec.output)
            except InvalidInput as error:
                # The gates refuse such a task; an override may still bring it here, and harm must be watched.
                log.error("validity is not watched", task=step.task, reason=str(error))
                self._checks[key] = None
        return self._checks[key]

    def _note(self, durable: str, batch: Sequence[RawMessage]) -> None:
        newest = max((message.timestamp_ns for message in batch), default=0) / 1e9
        self._read_until[durable] = max(self._read_until[durable], newest)


def _address(subject: str, kind: str) -> tuple[str, str]:
    tokens = subject.split(".")
    if len(tokens) != 3 or tokens[0] != kind:
        raise InvalidInput(f"{subject!r} is not {kind}.<tenant>.<task>", field="subject")
    return tokens[1], tokens[2]


def _step(steps: Sequence[Watch], generation: int) -> Watch | None:
    """The stage a request belongs to: the last one that had begun in the route it was answered by."""
    return next((step for step in reversed(steps) if step.generation <= generation), None)


def _takes_part(step: Watch, fact: Inference) -> bool:
    if fact.role is Role.STABLE:
        return fact.version == step.stable_version
    challenger = Role.SHADOW if step.stage == SHADOW else Role.CANARY
    return fact.role is challenger and fact.version == step.version


def _window(step: Watch, row: dict[str, Any], segment: str | None) -> dict[str, Any]:
    return {
        "tenant": step.tenant,
        "task": step.task,
        "generation": step.generation,
        "unit": row["unit"],
        "turn_id": step.turn_id,
        "role": row["role"],
        "rho": row["rho"],
        "opened_at": row["answered_at"],
        "closes_at": row["answered_at"] + step.spec.rollout.canary.window_seconds,
        "number": None,
        "bad": None,
        "segment": segment,
    }
