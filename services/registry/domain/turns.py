"""The working half of a turn: a dataset, a run, a version, its loading and its report."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from libs.contracts.commands import BuildDataset, Command, Contender, EvaluateModel, TrainModel
from libs.contracts.estimates import Verdict
from libs.contracts.events import (
    CheckpointSaved,
    DatasetBuilt,
    DatasetRefused,
    EvaluationFailed,
    Fact,
    ReportCompleted,
    RunCompleted,
    RunFact,
    RunFailed,
    RunProgressed,
    RunStarted,
    TurnState,
)
from libs.contracts.ids import derived_id
from services.registry.domain.decision import Decision, Send, enter
from services.registry.domain.rollout import begin_canary, begin_shadow, conclude
from services.registry.domain.routing import Fleet, reroute
from services.registry.domain.state import NOTHING, Grounds, Occasion, Status, Task, Trigger, Turn, Version

_CURVE_POINTS = 200
_WORK: Mapping[type[Command], TurnState] = {
    BuildDataset: TurnState.CURATING,
    TrainModel: TurnState.TRAINING,
    EvaluateModel: TurnState.EVALUATING,
}


def dataset_built(task: Task, fact: DatasetBuilt, occasion: Occasion) -> Decision:
    """The turn's dataset exists: train on it."""
    turn = _turn_in(task, TurnState.CURATING)
    if turn is None or fact.number != turn.dataset_number:
        return Decision(task)
    run_id = _derived("run", turn.turn_id)
    command = TrainModel(
        tenant=task.tenant,
        task=task.name,
        turn_id=turn.turn_id,
        spec=task.spec,
        run_id=run_id,
        dataset_digest=fact.digest,
        base_digest=_base_asked(task),
        continue_from=task.stable.adapter_digest if task.spec.recipe.start == "stable" else "",
    )
    return enter(
        task,
        TurnState.TRAINING,
        occasion,
        f"dataset {fact.number}: {fact.splits.get('train', 0)} rows to train on",
        evidence=_evidence(fact),
        dataset_digest=fact.digest,
        suite_digest=fact.suite_digest,
        run_id=run_id,
    ).also(Send(command, run_id))


def dataset_refused(task: Task, fact: DatasetRefused, occasion: Occasion) -> Decision:
    """No dataset, no version: the turn fails with curation's reason."""
    turn = _turn_in(task, TurnState.CURATING)
    if turn is None or fact.number != turn.dataset_number:
        return Decision(task)
    return conclude(task, TurnState.FAILED, occasion, f"no dataset: {fact.reason}", evidence=_evidence(fact))


def run_started(task: Task, fact: RunStarted, occasion: Occasion) -> Decision:  # noqa: ARG001 - all facts alike
    """An attempt began; what it has to do and where it goes on."""
    news = {"total_steps": fact.total_steps, "resumed_at_step": fact.resumed_at_step}
    return _progress(task, fact, news)


def run_progressed(task: Task, fact: RunProgressed, occasion: Occasion) -> Decision:
    """Keep the newest numbers and the loss curve, thinned to a bounded number of points."""
    curve = [point for point in _curve(task) if point[0] < fact.step]
    curve.append((fact.step, fact.loss))
    if len(curve) > _CURVE_POINTS:
        curve = [*curve[:-1:2], curve[-1]]
    news = fact.model_dump(mode="json", exclude={"tenant", "task", "run_id"})
    return _progress(task, fact, {**news, "curve": curve, "reported_at": occasion.now.isoformat()})


def checkpoint_saved(task: Task, fact: CheckpointSaved, occasion: Occasion) -> Decision:  # noqa: ARG001
    """Remember where the run would go on."""
    return _progress(task, fact, {"checkpoint_step": fact.step})


def run_completed(task: Task, fact: RunCompleted, occasion: Occasion) -> Decision:
    """A new model version: give it a number, put it into the route as a candidate and wait for the engines."""
    turn = _turn_of_run(task, fact)
    if turn is None:
        return Decision(task)
    wrong = _not_as_asked(task, turn, fact)
    if wrong:
        return conclude(task, TurnState.FAILED, occasion, wrong, evidence=_evidence(fact), run_epoch=fact.epoch)
    number = max(version.number for version in task.versions) + 1
    version = Version(
        number=number,
        digest=fact.adapter_digest,
        base_digest=fact.adapter_digest if fact.whole else fact.base_digest,
        adapter_digest="" if fact.whole else fact.adapter_digest,
        status=Status.CANDIDATE,
        dataset_digest=fact.dataset_digest,
        run_id=fact.run_id,
        run_manifest_digest=fact.run_manifest_digest,
        turn_id=turn.turn_id,
        traceparent=turn.traceparent,
        evidence={"run": _evidence(fact)},
    )
    curve = list(fact.loss_curve) or _curve(task)
    done = {**turn.progress, "step": fact.steps, "total_steps": fact.steps, "loss": fact.final_loss, "curve": curve,
            "seconds": fact.seconds, "eta_seconds": 0.0, "killed_at_step": fact.killed_at_step,
            "resumed_at_step": fact.resumed_at_step}  # fmt: skip
    named = replace(task, versions=(*task.versions, version))
    return reroute(named).then(
        lambda task: enter(
            task,
            TurnState.LOADING,
            occasion,
            f"version {number} trained in {fact.steps} steps",
            evidence=_evidence(fact),
            version=number,
            run_epoch=fact.epoch,
            progress=done,
        )
    )


def run_failed(task: Task, fact: RunFailed, occasion: Occasion) -> Decision:
    """The run ended without an adapter."""
    turn = _turn_of_run(task, fact)
    if turn is None:
        return Decision(task)
    end = TurnState.CANCELLED if fact.cancelled else TurnState.FAILED
    return conclude(task, end, occasion, f"training: {fact.reason}", evidence=_evidence(fact), run_epoch=fact.epoch)


def command_exhausted(task: Task, command: Command, reason: str, occasion: Occasion) -> Decision:
    """Whoever took the turn's command died each time, without a word: nobody will answer it any more."""
    turn = _turn_in(task, _WORK[type(command)])
    if turn is None or turn.turn_id != command.turn_id:
        return Decision(task)
    return conclude(task, TurnState.FAILED, occasion, f"{command.subject} {reason}")


def engines_reported(task: Task, fleet: Fleet, occasion: Occasion) -> Decision:
    """While a candidate loads: go on once every engine of its base can serve it, fail when one says it never will.

    An override goes straight to users and waits for the end of a freeze.
    """
    turn, version = _turn_in(task, TurnState.LOADING), task.challenger
    if turn is None or version is None:
        return Decision(task)
    refusal = fleet.refusal(version, occasion)
    if refusal:
        return conclude(task, TurnState.FAILED, occasion, refusal)
    missing = fleet.missing(version, occasion)
    if not missing and turn.trigger is Trigger.OVERRIDE:
        # It waives gates, and not what keeps users from anything new for now.
        frozen = task.spec.rollout.frozen(occasion.now)
        missing = f"held: {frozen}" if frozen else None
    if missing:
        return Decision(task if turn.reason == missing else task.with_turn(reason=missing))
    if turn.trigger is Trigger.OVERRIDE:
        return begin_canary(task, occasion, "loaded; gates waived by an override, watched live")
    return _evaluate(task, turn, version, occasion)


def report_completed(task: Task, fact: ReportCompleted, occasion: Occasion) -> Decision:
    """A report: only a pass of every gate the task declares gives a version grounds to be served."""
    turn = _turn_of_report(task, fact)
    if turn is None:
        return Decision(task)
    held = {gate.gate: gate.verdict for gate in fact.gates}
    declared = [gate.name for gate in task.spec.evaluation.gates]
    open_gates = [name for name in dict.fromkeys([*declared, *held]) if held.get(name) is not Verdict.PASS]
    if fact.verdict is not Verdict.PASS and not open_gates:
        open_gates = declared
    passed = fact.verdict is Verdict.PASS and not open_gates
    evidence = _evidence(fact)
    judged = task.with_version(
        fact.version,
        report_id=fact.report_id,
        report_digest=fact.report_digest,
        open_gates=tuple(open_gates),
        grounds=Grounds.GATES if passed else Grounds.NONE,
        evidence={**task.version(fact.version).evidence, "report": evidence},
    )
    if not passed:
        reasons = "; ".join(
            f"{gate.gate} {gate.verdict.value}: {gate.reason}" for gate in fact.gates if gate.gate in open_gates
        )
        unheard = ", ".join(name for name in open_gates if name not in held)
        reason = "; ".join(part for part in (reasons, f"no verdict on {unheard}" if unheard else "") if part)
        return conclude(judged, TurnState.REFUSED, occasion, reason, status=Status.REFUSED, evidence=evidence)
    if task.spec.approvals:
        waiting = f"all gates passed; waiting for {task.spec.approvals} approval(s)"
        return enter(judged, TurnState.AWAITING_APPROVAL, occasion, waiting, evidence=evidence)
    return begin_shadow(judged, occasion, "all gates passed", evidence=evidence)


def evaluation_failed(task: Task, fact: EvaluationFailed, occasion: Occasion) -> Decision:
    """No report is never a pass."""
    if _turn_of_report(task, fact) is None:
        return Decision(task)
    return conclude(task, TurnState.FAILED, occasion, f"evaluation: {fact.reason}", evidence=_evidence(fact))


def _evaluate(task: Task, turn: Turn, version: Version, occasion: Occasion) -> Decision:
    base, stable = task.version(0), task.stable
    report_id = _derived("report", turn.turn_id)
    command = EvaluateModel(
        tenant=task.tenant,
        task=task.name,
        turn_id=turn.turn_id,
        spec=task.spec,
        report_id=report_id,
        candidate=Contender(name="fine_tuned", version=version.number, digest=version.digest),
        baselines=(
            Contender(name="base", version=base.number, digest=base.digest),
            Contender(name="stable", version=stable.number, digest=stable.digest),
        ),
        suite_digest=turn.suite_digest,
        dataset_digest=turn.dataset_digest,
    )
    evaluating = enter(task, TurnState.EVALUATING, occasion, "loaded and routable", report_id=report_id)
    return evaluating.also(Send(command, report_id))


def _base_asked(task: Task) -> str:
    """What a run begins with: stable may be a base of its own, where every weight was trained."""
    return task.stable.base_digest if task.spec.recipe.start == "stable" else task.base_digest


def _not_as_asked(task: Task, turn: Turn, fact: RunCompleted) -> str | None:
    for what, wanted, got in (
        ("base", _base_asked(task), fact.base_digest),
        ("dataset", turn.dataset_digest, fact.dataset_digest),
    ):
        if wanted != got:
            return f"training used {what} {got[:19]}, asked for was {wanted[:19]}"
    return None


def _progress(task: Task, fact: RunFact, news: Mapping[str, Any]) -> Decision:
    turn = _turn_of_run(task, fact)
    if turn is None:
        return Decision(task)
    return Decision(task.with_turn(run_epoch=fact.epoch, progress={**turn.progress, "epoch": fact.epoch, **news}))


def _curve(task: Task) -> list[tuple[int, float]]:
    curve = task.turn.progress.get("curve", ()) if task.turn is not None else ()
    return [(int(step), float(loss)) for step, loss in curve]


def _turn_in(task: Task, state: TurnState) -> Turn | None:
    turn = task.open_turn
    return turn if turn is not None and turn.state is state else None


def _turn_of_run(task: Task, fact: RunFact) -> Turn | None:
    """The turn a run's fact is about; None for another run and for an attempt that was taken over."""
    turn = _turn_in(task, TurnState.TRAINING)
    return turn if turn is not None and turn.run_id == fact.run_id and fact.epoch >= turn.run_epoch else None


def _turn_of_report(task: Task, fact: ReportCompleted | EvaluationFailed) -> Turn | None:
    turn = _turn_in(task, TurnState.EVALUATING)
    ours = turn is not None and (turn.report_id, turn.version) == (fact.report_id, fact.version)
    return turn if ours else None


def _derived(prefix: str, turn_id: str) -> str:
    return f"{prefix}-{derived_id(turn_id, prefix).replace('-', '')}"


def _evidence(fact: Fact) -> Mapping[str, Any]:
    return fact.model_dump(mode="json", exclude={"tenant", "task"}) or NOTHING
