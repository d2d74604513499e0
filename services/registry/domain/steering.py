"""A rollout under way in people's hands: paused, resumed, advanced or aborted, by name and on the record."""

from libs.contracts.errors import FailedPrecondition, InvalidInput
from libs.contracts.estimates import Verdict
from libs.contracts.events import TurnState
from libs.contracts.subjects import version_name
from services.registry.domain.decision import Decision, Record
from services.registry.domain.hands import required
from services.registry.domain.rollout import begin_canary, conclude
from services.registry.domain.routing import Fleet
from services.registry.domain.state import LIVE, Occasion, Task, Turn

PAUSE, RESUME, ADVANCE, ABORT = "pause", "resume", "advance", "abort"
WISHES = (PAUSE, RESUME, ADVANCE, ABORT)


def steer_rollout(task: Task, wish: str, fleet: Fleet, by: str, reason: str, occasion: Occasion) -> Decision:
    """Do what a person wants of the rollout. Raises InvalidInput, or FailedPrecondition where it cannot be done now.

    Harm shown ends a rollout in whatever state people left it: nobody can pause that.
    """
    by = required(by, "by")
    if wish not in WISHES:
        raise InvalidInput(f"wish {wish!r} must be one of {', '.join(WISHES)}", field="wish")
    turn = task.open_turn
    if turn is None or turn.state not in LIVE:
        where = f"its turn is {turn.state.value}" if turn is not None else "no turn is under way"
        raise FailedPrecondition(
            f"task {task.name} has no rollout under way: {where}", reason="NO_ROLLOUT", field="task"
        )
    if wish == PAUSE:
        return _pause(task, turn, by, reason)
    if wish == RESUME:
        return _resume(task, turn, by, reason)
    reason = required(reason, "reason")
    if wish == ABORT:
        return conclude(task, TurnState.CANCELLED, occasion, f"rollout aborted by {by}: {reason}", by=by)
    return _advance(task, turn, fleet, by, reason, occasion)


def _pause(task: Task, turn: Turn, by: str, reason: str) -> Decision:
    if turn.held_by:
        return Decision(task)
    told = f"paused by {by}" + (f": {reason}" if reason.strip() else "")
    return Decision(task.with_turn(held_by=by, reason=told), (Record("rollout_paused", by, told, turn.turn_id),))


def _resume(task: Task, turn: Turn, by: str, reason: str) -> Decision:
    if not turn.held_by:
        return Decision(task)
    told = f"resumed by {by}" + (f": {reason}" if reason.strip() else "")
    return Decision(task.with_turn(held_by="", reason=told), (Record("rollout_resumed", by, told, turn.turn_id),))


def _advance(task: Task, turn: Turn, fleet: Fleet, by: str, reason: str, occasion: Occasion) -> Decision:
    """The next step without waiting for the rest of the evidence: an override, so who and why are kept.

    The watch for live harm is not waived: from shadow the next step must be below 100 %, and the step to 100 % needs an
    assessment of the step before it that was made and shows no harm.
    """
    frozen = task.spec.rollout.frozen(occasion.now)
    if frozen is not None:
        raise FailedPrecondition(f"no rollout advances now: {frozen}", reason="FROZEN", field="rollout.freeze")
    share = next(step for step in task.spec.rollout.canary.steps if step > turn.share)
    name = version_name(task.name, turn.version)
    if share >= 100:
        if turn.state is not TurnState.CANARY:
            raise FailedPrecondition(
                "the next step is 100 %: without a step below it there is no watch for live harm",
                reason="NO_WATCH",
                field="rollout.canary.steps",
            )
        if turn.assessment is None or turn.assessment.verdict is Verdict.FAIL:
            raise FailedPrecondition(
                f"{name} has not been assessed at {turn.share} % yet: the last step needs that", reason="NO_EVIDENCE"
            )
    version = task.challenger
    missing = fleet.missing(version, occasion) if version is not None else None
    if missing:
        raise FailedPrecondition(f"{name} cannot have more users yet: {missing}", reason="NOT_ROUTABLE")
    seen = turn.assessment
    evidence = {
        "from": turn.share,
        "to": share,
        "assessment": seen.model_dump(mode="json", exclude={"tenant", "task"}) if seen is not None else None,
    }
    told = f"advanced by {by}: {reason}"
    record = Record("rollout_advanced", by, told, turn.turn_id, evidence)
    return Decision(task, (record,)).then(lambda task: begin_canary(task, occasion, told, evidence=evidence))
