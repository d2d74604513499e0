"""What people decide: approvals, overrides, rollbacks and steering; always by name, always with a reason."""

from dataclasses import replace

from libs.contracts.errors import AlreadyExists, FailedPrecondition, InvalidInput
from libs.contracts.events import OverrideGranted, TurnState
from libs.contracts.routes import RunState, RunWish
from libs.contracts.subjects import version_name
from services.registry.domain.decision import Decision, Publish, PutRun, Record, enter
from services.registry.domain.rollout import begin_shadow, conclude, roll_back_stable
from services.registry.domain.routing import reroute
from services.registry.domain.state import LIVE, Grounds, Occasion, Status, Task, Trigger, Turn
from services.registry.domain.triggers import refuse_second_turn, turn_id_for

_JUDGED_AGAINST_STABLE = frozenset({TurnState.EVALUATING, TurnState.AWAITING_APPROVAL})


def approve(task: Task, number: int, by: str, occasion: Occasion) -> Decision:
    """One named approval; with enough of them, by different people, the rollout begins."""
    by = required(by, "by")
    version = task.version(number)
    turn = task.open_turn
    if turn is None or turn.version != number or turn.state is not TurnState.AWAITING_APPROVAL:
        raise FailedPrecondition(
            f"{version_name(task.name, number)} does not wait for approval (it is {version.status.value})",
            reason="NOT_WAITING",
            field="version",
        )
    if by.casefold() in (name.casefold() for name in turn.approvals):
        raise AlreadyExists(
            f"{by} has approved {version_name(task.name, number)} already; another person must", field="by"
        )
    approvals = (*turn.approvals, by)
    missing = task.spec.approvals - len(approvals)
    reason = f"approved by {', '.join(approvals)}" + (f"; {missing} more needed" if missing > 0 else "")
    record = Record("approved", by, reason, turn.turn_id, {"version": number, "approvals": list(approvals)})
    decision = Decision(task.with_turn(approvals=approvals, reason=reason), (record,))
    return decision if missing > 0 else decision.then(lambda task: begin_shadow(task, occasion, reason))


def override(task: Task, number: int, gates: tuple[str, ...], by: str, reason: str, occasion: Occasion) -> Decision:
    """Waive named gates of a refused version: it is loaded again and rolled out under the watch for live harm.

    Every gate that did not pass must be named: nobody waives by accident what they did not look at.
    """
    by, reason = required(by, "by"), required(reason, "reason")
    version = task.version(number)
    if version.status is not Status.REFUSED:
        raise FailedPrecondition(
            f"{version_name(task.name, number)} is {version.status.value}; only a refused version can be overridden",
            reason="NOT_REFUSED",
            field="version",
        )
    _check_waived(version.open_gates, gates)
    refuse_second_turn(task)
    if task.spec.rollout.canary.steps[0] >= 100:
        raise FailedPrecondition(
            "an override skips shadow, so rollout.canary.steps must have a step below 100 to watch for harm at",
            reason="NO_WATCH",
            field="rollout.canary.steps",
        )
    turn = Turn(
        turn_id=turn_id_for(occasion),
        trigger=Trigger.OVERRIDE,
        state=TurnState.LOADING,
        traceparent=occasion.traceparent,
        watermark=task.consumed,
        opened_at=occasion.now,
        dataset_digest=version.dataset_digest,
        run_id=version.run_id,
        report_id=version.report_id,
        version=number,
    )
    waived = tuple(dict.fromkeys(gates))
    fact = OverrideGranted(tenant=task.tenant, task=task.name, version=number, gates=waived, by=by, reason=reason)
    evidence = {"version": number, "gates": list(waived), "report_digest": version.report_digest}
    task = task.with_version(number, status=Status.CANDIDATE, grounds=Grounds.OVERRIDE)
    return (
        reroute(replace(task, turn=turn))
        .also(Publish(fact, turn.turn_id), Record("override", by, reason, turn.turn_id, evidence))
        .then(
            lambda task: enter(task, TurnState.LOADING, occasion, f"{by} waived {', '.join(waived)}: {reason}", by=by)
        )
    )


def roll_back(task: Task, by: str, reason: str, occasion: Occasion) -> Decision:
    """Out with what is new: the challenger while one is live, otherwise stable gives way to previous."""
    by, reason = required(by, "by"), required(reason, "reason")
    told = f"{by}: {reason}"
    turn = task.open_turn
    if turn is not None and turn.state in LIVE:
        return conclude(task, TurnState.ROLLED_BACK, occasion, told, status=Status.ROLLED_BACK, by=by)
    if task.previous is None:
        raise FailedPrecondition(
            f"task {task.name} has nothing to roll back to: {version_name(task.name, task.stable.number)} is stable "
            "and no previous version is kept",
            reason="NO_PREVIOUS",
            field="task",
        )
    decision = Decision(task)
    if turn is not None and turn.state in _JUDGED_AGAINST_STABLE:
        gone = "stable was rolled back: the comparison with it no longer holds"
        decision = conclude(task, TurnState.CANCELLED, occasion, gone, by=by)
    return decision.then(lambda task: roll_back_stable(task, occasion, told, by))


def steer(task: Task, turn_id: str, wish: str, by: str, reason: str, occasion: Occasion) -> Decision:
    """Pause, resume or cancel. Only a run can rest; cancelling ends the turn at once, wherever it stands."""
    by = required(by, "by")
    if wish not in list(RunWish):
        raise InvalidInput(f"wish {wish!r} must be one of {', '.join(RunWish)}", field="wish")
    turn = task.open_turn
    if turn is None or turn.turn_id != turn_id:
        state = task.turn.state.value if task.turn is not None and task.turn.turn_id == turn_id else "over"
        raise FailedPrecondition(f"{turn_id} cannot be steered: it is {state}", reason="TURN_ENDED", field="turn_id")
    asked = RunWish(wish)
    if asked is RunWish.CANCEL:
        told = f"cancelled by {by}" + (f": {reason}" if reason else "")
        stopped = _wish(task, turn, asked, by, reason) if turn.state is TurnState.TRAINING else Decision(task)
        return stopped.then(lambda task: conclude(task, TurnState.CANCELLED, occasion, told, by=by))
    if turn.state is not TurnState.TRAINING:
        raise FailedPrecondition(
            f"only training can be paused and resumed; {turn_id} is {turn.state.value}",
            reason="NOT_TRAINING",
            field="wish",
        )
    if asked is turn.wish:
        return Decision(task)
    action = "paused" if asked is RunWish.PAUSE else "resumed"
    told = f"{action} by {by}" + (f": {reason}" if reason else "")
    return _wish(task.with_turn(reason=told), turn, asked, by, reason).also(Record(action, by, told, turn_id))


def required(value: str, field: str) -> str:
    """The text without surrounding blanks; InvalidInput when nothing is left."""
    value = value.strip()
    if not value:
        raise InvalidInput(f"{field!r} must say something: this is kept in the audit log", field=field)
    return value


def _wish(task: Task, turn: Turn, wish: RunWish, by: str, reason: str) -> Decision:
    number = turn.wish_number + 1
    state = RunState(run_id=turn.run_id, wish=wish, by=by, reason=reason)
    return Decision(task.with_turn(wish=wish, wish_number=number), (PutRun(state, number),))


def _check_waived(open_gates: tuple[str, ...], gates: tuple[str, ...]) -> None:
    unnamed = [gate for gate in open_gates if gate not in gates]
    if unnamed:
        raise InvalidInput(
            f"these gates did not pass and must be named to be waived: {', '.join(unnamed)}", field="gates"
        )
    unknown = [gate for gate in gates if gate not in open_gates]
    if unknown:
        raise InvalidInput(
            f"{', '.join(unknown)}: not among the gates that did not pass ({', '.join(open_gates)})", field="gates"
        )
