"""Facts of the other services and the passing of time, each turned into one decision."""

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from libs.contracts.commands import BuildDataset, Command, EvaluateModel, TrainModel
from libs.contracts.envelope import Envelope
from libs.contracts.errors import Permanent
from libs.contracts.events import (
    Assessment,
    CheckpointSaved,
    DatasetBuilt,
    DatasetRefused,
    DropDetected,
    EvaluationFailed,
    Fact,
    ImportCompleted,
    ReportCompleted,
    RunCompleted,
    RunFailed,
    RunProgressed,
    RunStarted,
    SegmentWritten,
)
from libs.contracts.ids import new_id
from libs.eventing.deadletters import Letter
from libs.eventing.subscriptions import Subscription
from libs.telemetry import current_traceparent, get_logger, new_traceparent
from services.registry.domain import rollout, triggers, turns
from services.registry.domain.decision import Decision
from services.registry.domain.routing import Fleet
from services.registry.domain.state import Occasion, Task
from services.registry.store import Store

log = get_logger(__name__)

Rule = Callable[[Task, Any, Occasion], Decision]

_RULES: dict[str, dict[type[Fact], Rule]] = {
    "registry-ingestion": {
        SegmentWritten: triggers.segment_written,
        ImportCompleted: triggers.import_completed,
    },
    "registry-curation": {
        DatasetBuilt: turns.dataset_built,
        DatasetRefused: turns.dataset_refused,
    },
    "registry-trainer": {
        RunStarted: turns.run_started,
        RunProgressed: turns.run_progressed,
        CheckpointSaved: turns.checkpoint_saved,
        RunCompleted: turns.run_completed,
        RunFailed: turns.run_failed,
    },
    "registry-evaluator": {
        ReportCompleted: turns.report_completed,
        EvaluationFailed: turns.evaluation_failed,
        DropDetected: triggers.drop_detected,
    },
}

_COMMANDS: dict[str, type[Command]] = {kind.subject: kind for kind in (BuildDataset, TrainModel, EvaluateModel)}


class Handlers:
    """Facts and ticks; `fleet` is asked for the engines' newest reports."""

    def __init__(self, store: Store, fleet: Callable[[], Fleet]) -> None:
        self._store = store
        self._fleet = fleet

    def subscriptions(self) -> tuple[Subscription, ...]:
        """One subscription per durable of the registry."""
        return tuple(
            Subscription(
                durable,
                (*rules, Assessment) if durable == "registry-evaluator" else tuple(rules),
                functools.partial(self.handle, durable),
            )
            for durable, rules in _RULES.items()
        )

    async def handle(self, durable: str, envelope: Envelope[Any]) -> None:
        """Decide about one fact. NotFound (a dead letter) for a task that was never applied here."""
        fact: Fact = envelope.data
        occasion = occasion_of(envelope)
        if isinstance(fact, Assessment):
            assessment, fleet = fact, self._fleet()

            def decide(task: Task) -> Decision:
                return rollout.assessed(task, assessment, fleet, occasion)
        else:
            rule = _RULES[durable][type(fact)]

            def decide(task: Task) -> Decision:
                return rule(task, fact, occasion)

        task = await self._store.decide(fact.tenant, fact.task, occasion, decide, cause=envelope, consumer=durable)
        log.debug("fact handled", type=envelope.type, task=task.name, turn_id=envelope.turn_id)

    async def exhausted(self, letter: Letter, reason: str) -> None:
        """End the turn that waits on a command which killed whoever took it, on every delivery."""
        kind = _COMMANDS.get(letter.subject)
        if kind is None:
            return
        command, occasion = kind.model_validate_json(letter.data), occasion_now()

        def decide(task: Task) -> Decision:
            return turns.command_exhausted(task, command, reason, occasion)

        await self._store.look(await self._store.task(command.tenant, command.task), occasion, decide)

    async def tick(self) -> None:
        """Look at every task for what no fact announces: engines that loaded, passes that waited, cooldowns over."""
        fleet = self._fleet()
        for task in await self._store.every_task():
            occasion = occasion_now()
            try:
                await self._store.look(task, occasion, functools.partial(_look, fleet, occasion))
            except Permanent as error:
                # One task that cannot go on must not hold up the others; the next tick says it again.
                log.error("task cannot go on", task=task.name, reason=str(error))


def _look(fleet: Fleet, occasion: Occasion, task: Task) -> Decision:
    return turns.engines_reported(task, fleet, occasion).then(lambda task: rollout.look_again(task, fleet, occasion))


def occasion_of(envelope: Envelope[Any]) -> Occasion:
    """The occasion of a fact: replayed, it derives the same ids."""
    trace = current_traceparent() or envelope.traceparent or new_traceparent()
    return Occasion(envelope.id, datetime.now(UTC), trace)


def occasion_now() -> Occasion:
    """The occasion of a tick."""
    return Occasion(new_id("tick"), datetime.now(UTC), current_traceparent() or new_traceparent())
