"""What a decision is: the task after it, and the effects that must become true with it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from libs.contracts.commands import Command
from libs.contracts.events import Fact, TaskApplied, TurnChanged, TurnState
from libs.contracts.routes import Route, RunState
from services.registry.domain.state import ENDS, NOTHING, Occasion, Step, Task

REGISTRY = "registry"
"""Who decided, where no person did."""


@dataclass(frozen=True, slots=True)
class Send:
    """Ask a service for work; `key` tells it apart within its kind."""

    command: Command
    key: str


@dataclass(frozen=True, slots=True)
class Publish:
    """Tell a fact; `key` tells it apart within its kind."""

    fact: Fact
    key: str


@dataclass(frozen=True, slots=True)
class PutRoute:
    """Make this the desired route."""

    route: Route


@dataclass(frozen=True, slots=True)
class PutTask:
    """Make this the desired specification."""

    applied: TaskApplied


@dataclass(frozen=True, slots=True)
class PutRun:
    """Say what is wanted of a run; `number` rises with each wish."""

    state: RunState
    number: int


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the audit log: what was decided, by whom, why and on what evidence."""

    action: str
    by: str
    reason: str
    turn_id: str = ""
    evidence: Mapping[str, Any] = field(default_factory=lambda: NOTHING)


Effect = Send | Publish | PutRoute | PutTask | PutRun | Record


@dataclass(frozen=True, slots=True)
class Decision:
    """The task after a decision and its effects, in the order in which they become visible."""

    task: Task
    effects: tuple[Effect, ...] = ()

    def then(self, decide: Callable[[Task], "Decision"]) -> "Decision":
        """Go on deciding from here; the effects add up."""
        following = decide(self.task)
        return Decision(following.task, self.effects + following.effects)

    def also(self, *effects: Effect) -> "Decision":
        """The same with more effects."""
        return Decision(self.task, self.effects + effects)


def enter(
    task: Task,
    state: TurnState,
    occasion: Occasion,
    reason: str = "",
    *,
    by: str = REGISTRY,
    evidence: Mapping[str, Any] = NOTHING,
    **changes: Any,
) -> Decision:
    """The newest turn enters `state`: a line in its history, a fact and a line in the audit log."""
    step = Step(state, reason, occasion.now)
    task = task.with_turn(state=state, reason=reason, **changes)
    turn = task.turn
    assert turn is not None  # with_turn refuses a task without one
    turn = replace(turn, steps=(*turn.steps, step), closed_at=occasion.now if state in ENDS else None)
    fact = TurnChanged(
        tenant=task.tenant,
        task=task.name,
        turn_id=turn.turn_id,
        trigger=turn.trigger.value,
        state=state,
        reason=reason,
        version=turn.version or None,
    )
    return Decision(
        replace(task, turn=turn),
        (
            Publish(fact, f"{turn.turn_id}/{len(turn.steps)}"),
            Record(state.value, by, reason, turn.turn_id, evidence),
        ),
    )
