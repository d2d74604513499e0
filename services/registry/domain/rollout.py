"""The live half of a turn: shadow, canary steps, stable, or out again; moved by evidence and by nothing else."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from libs.contracts.estimates import Verdict
from libs.contracts.events import Assessment, RolloutChanged, TurnState
from services.registry.domain.decision import REGISTRY, Decision, Publish, Record, enter
from services.registry.domain.routing import Fleet, reroute
from services.registry.domain.state import LIVE, NOTHING, Grounds, Occasion, Status, Task, Trigger, Turn

SHADOW, CANARY, STABLE, ROLLED_BACK = "shadow", "canary", "stable", "rolled_back"


def begin_shadow(
    task: Task, occasion: Occasion, reason: str, *, by: str = REGISTRY, evidence: Mapping[str, Any] = NOTHING
) -> Decision:
    """The challenger gets copies of stable's requests; nobody sees its answers."""
    turn = _open(task)
    task = task.with_version(turn.version, status=Status.SHADOW)
    return _stage(task, TurnState.SHADOW, SHADOW, 0, occasion, reason, by=by, evidence=evidence)


def begin_canary(task: Task, occasion: Occasion, reason: str, *, evidence: Mapping[str, Any] = NOTHING) -> Decision:
    """The challenger gets its first share, or its next one; with all of it, it is stable.

    A challenger that skipped shadow by an override never takes everything at once: without a step below 100 there would
    be no watch for live harm, and the turn fails.
    """
    turn = _open(task)
    steps = task.spec.rollout.canary.steps
    share = next(step for step in steps if step > turn.share)
    if share < 100:
        task = task.with_version(turn.version, status=Status.CANARY)
        return _stage(task, TurnState.CANARY, CANARY, share, occasion, reason, evidence=evidence)
    if turn.trigger is Trigger.OVERRIDE and turn.state is not TurnState.CANARY:
        return conclude(task, TurnState.FAILED, occasion, "an override needs a canary step below 100 to be watched at")
    return _promote(task, occasion, reason, evidence)


def assessed(task: Task, fact: Assessment, fleet: Fleet, occasion: Occasion) -> Decision:
    """Evidence on the present stage: harm ends it at once, a pass moves it on, anything else holds.

    Evidence of another stage, version or generation says nothing about this one. A pass also holds while it is stale or
    while an engine cannot serve the version; harm does neither.
    """
    turn = task.open_turn
    if turn is None or turn.state not in LIVE:
        return Decision(task)
    if (fact.stage, fact.version, fact.generation) != (turn.state.value, turn.version, turn.generation):
        return Decision(task)
    if turn.assessment is not None and fact.assessed_at < turn.assessment.assessed_at:
        return Decision(task)
    evidence = fact.model_dump(mode="json", exclude={"tenant", "task"})
    heard = task.with_turn(assessment=fact)
    harm = _harm(fact)
    if harm:
        return conclude(
            heard,
            TurnState.ROLLED_BACK,
            occasion,
            f"{fact.stage}: {harm}",
            status=Status.ROLLED_BACK,
            evidence=evidence,
        )
    if fact.verdict is not Verdict.PASS:
        return Decision(heard)
    hold = _hold(heard, fact, fleet, occasion)
    if hold:
        return Decision(heard if turn.reason == hold else heard.with_turn(reason=hold))
    return begin_canary(heard, occasion, f"{fact.stage} passed: {fact.reason}", evidence=evidence)


def look_again(task: Task, fleet: Fleet, occasion: Occasion) -> Decision:
    """Take up a pass that had to wait for an engine."""
    turn = task.open_turn
    if turn is None or turn.assessment is None or turn.assessment.verdict is not Verdict.PASS:
        return Decision(task)
    return assessed(task, turn.assessment, fleet, occasion)


def renew_stage(task: Task, occasion: Occasion, by: str) -> Decision:
    """After the task changed in the middle of a stage: the same stage again, with evidence counted from zero."""
    turn = task.open_turn
    if turn is None or turn.state not in LIVE:
        return Decision(task)
    task = task.with_turn(generation=task.generation, assessment=None)
    reason = f"{by} changed the task: evidence starts anew"
    changed = _rollout_changed(task, turn.state.value, turn.share / 100, reason, occasion)
    return Decision(task, (changed, Record("stage_renewed", by, reason, turn.turn_id)))


def conclude(
    task: Task,
    state: TurnState,
    occasion: Occasion,
    reason: str,
    *,
    status: Status = Status.RETIRED,
    by: str = REGISTRY,
    evidence: Mapping[str, Any] = NOTHING,
    **changes: Any,
) -> Decision:
    """End the turn under way without a new stable: its version, if it has one, leaves the route with `status`.

    An override ends with its turn: unless harm was shown, the version is refused as it was before.
    """
    turn = _open(task)
    was_live = turn.state in LIVE
    decision = Decision(task)
    if turn.version:
        if turn.trigger is Trigger.OVERRIDE and status is Status.RETIRED:
            task = task.with_version(turn.version, status=Status.REFUSED, grounds=Grounds.NONE)
        else:
            task = task.with_version(turn.version, status=status)
        decision = reroute(task.with_turn(share=0))
    decision = decision.then(
        lambda task: enter(task, state, occasion, reason, by=by, evidence=evidence, share=0, **changes)
    )
    if was_live:
        decision = decision.also(_rollout_changed(decision.task, ROLLED_BACK, 0.0, reason, occasion))
    return decision


def roll_back_stable(task: Task, occasion: Occasion, reason: str, by: str) -> Decision:
    """Put the previous version, pinned and warm, back in the place of the stable one."""
    previous, stable = task.previous, task.stable
    assert previous is not None  # the caller refuses politely
    task = task.with_version(stable.number, status=Status.ROLLED_BACK)
    task = task.with_version(previous.number, status=Status.STABLE)
    # A drop of the version that goes is answered by its going.
    decision = reroute(replace(task, drop_reason=""))
    fact = RolloutChanged(
        tenant=task.tenant,
        task=task.name,
        turn_id=stable.turn_id,
        generation=decision.task.generation,
        stage=ROLLED_BACK,
        version=stable.number,
        stable_version=previous.number,
        share=0.0,
        spec=task.spec,
        reason=reason,
        started_at=occasion.now,
    )
    evidence = {"from": stable.number, "to": previous.number, "generation": decision.task.generation}
    return decision.also(
        Publish(fact, str(decision.task.generation)), Record(ROLLED_BACK, by, reason, stable.turn_id, evidence)
    )


def _promote(task: Task, occasion: Occasion, reason: str, evidence: Mapping[str, Any]) -> Decision:
    turn = _open(task)
    before, stable = task.previous, task.stable
    if before is not None:
        task = task.with_version(before.number, status=Status.RETIRED)
    task = task.with_version(stable.number, status=Status.PREVIOUS)
    task = task.with_version(turn.version, status=Status.STABLE)
    return _stage(task, TurnState.PROMOTED, STABLE, 100, occasion, reason, evidence=evidence)


def _stage(
    task: Task,
    state: TurnState,
    stage: str,
    share: int,
    occasion: Occasion,
    reason: str,
    *,
    by: str = REGISTRY,
    evidence: Mapping[str, Any] = NOTHING,
) -> Decision:
    """Enter a stage: the route first, then the facts about it, under one new generation."""
    told = f"{reason}; {share} % of user units" if stage == CANARY else reason
    decision = reroute(task.with_turn(share=share, assessment=None)).then(
        lambda task: enter(
            task,
            state,
            occasion,
            told,
            by=by,
            evidence={**evidence, "share": share, "route": task.generation},
            generation=task.generation,
        )
    )
    return decision.also(_rollout_changed(decision.task, stage, share / 100, reason, occasion))


def _harm(fact: Assessment) -> str:
    """What was shown against the challenger: as a whole, or in one segment that a good whole would hide."""
    if fact.verdict is Verdict.FAIL:
        return fact.reason
    for name, segment in sorted(fact.segments.items()):
        if segment.verdict is Verdict.FAIL:
            return f"harm in the segment {name!r} (e = {segment.e_value:.3g}): {segment.reason}"
    return ""


def _hold(task: Task, fact: Assessment, fleet: Fleet, occasion: Occasion) -> str | None:
    turn = task.open_turn
    if turn is not None and turn.held_by:
        return f"held: paused by {turn.held_by}"
    frozen = task.spec.rollout.frozen(occasion.now)
    if frozen is not None:
        return f"held: {frozen}"
    if occasion.now - fact.assessed_at > timedelta(seconds=task.spec.rollout.stale_seconds):
        return "held: the last assessment is stale"
    version = task.challenger
    missing = fleet.missing(version, occasion) if version is not None else None
    return f"held: {missing}" if missing else None


def _rollout_changed(task: Task, stage: str, share: float, reason: str, occasion: Occasion) -> Publish:
    turn = task.turn
    assert turn is not None  # a stage belongs to a turn
    fact = RolloutChanged(
        tenant=task.tenant,
        task=task.name,
        turn_id=turn.turn_id,
        generation=task.generation,
        stage=stage,
        version=turn.version,
        stable_version=task.stable.number,
        share=share,
        spec=task.spec,
        reason=reason,
        started_at=occasion.now,
    )
    return Publish(fact, str(task.generation))


def _open(task: Task) -> Turn:
    turn = task.open_turn
    assert turn is not None  # callers decide about a turn under way
    return turn
