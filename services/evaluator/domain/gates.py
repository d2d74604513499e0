"""Gates: rules of the task file, decided on the sheets of a report. What cannot be decided is never passed."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from libs.contracts.estimates import Verdict
from libs.contracts.events import GateResult
from libs.contracts.task import GateSpec
from libs.contracts.task.evaluation import TASK_SUITE, UNTRAINED
from libs.statistics.corpus import corpus_estimate
from libs.statistics.gates import Decision, floor_of, floor_of_mean, superiority
from services.evaluator.domain.scores import Incomparable, Score
from services.evaluator.domain.sheet import Sheet

MOST_UNSCORED = 0.05
"""A metric that fails on a greater share of the items judges nothing: what it failed on may be what matters."""
MOST_UNCOVERED = 0.2
"""A suite that has no items for a greater share of the traffic does not mirror it, however its items are weighed."""
BASELINE_GATE = "compared-with-an-untrained-arm"


@dataclass(frozen=True, slots=True)
class Ruling:
    """A gate's result with its p-value; `more_needed` items would about settle what is inconclusive."""

    gate: GateSpec
    result: GateResult
    p_value: float | None = None
    more_needed: int | None = None


class _Unable(Exception):
    """A gate that cannot be decided, and why."""

    def __init__(self, reason: str, more_needed: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.more_needed = more_needed


def rule(gate: GateSpec, sheets: Mapping[str, Sheet], min_items: int) -> Ruling:
    """Decide one gate."""
    try:
        decision = _decide(gate, sheets, min_items)
    except _Unable as unable:
        return Ruling(gate, _result(gate, Verdict.INCONCLUSIVE, unable.reason, None), None, unable.more_needed)
    except Incomparable as error:
        return Ruling(gate, _result(gate, Verdict.INCONCLUSIVE, str(error), None))
    result = _result(gate, decision.verdict, decision.reason, decision)
    return Ruling(gate, result, decision.p_value, decision.more_needed)


def baseline_ruling(sheet: Sheet, kinds: Mapping[str, str], metric: str) -> Ruling | None:
    """A gate of its own where no arm shows what can be had without training: only a named override waives it."""
    if any(kinds.get(arm.name) in UNTRAINED for arm in sheet.arms):
        return None
    gate = GateSpec(name=BASELINE_GATE, kind="superiority", metric=metric, against="base")
    reason = (
        f"no arm of the evaluation does without training ({', '.join(UNTRAINED)}): whether fine-tuning is worth it is"
        " not known; add one to evaluation.arms, or waive this gate by name"
    )
    return Ruling(gate, _result(gate, Verdict.INCONCLUSIVE, reason, None))


def decided(result: GateResult) -> Ruling:
    """A gate that was decided elsewhere."""
    return Ruling(GateSpec(name=result.gate, kind="floor", metric=result.metric, at_least=1.0), result)


def overall(verdicts: Collection[Verdict]) -> Verdict:
    """Pass when every gate passes, fail when one fails. Without any gate nothing was shown."""
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL
    return Verdict.PASS if set(verdicts) == {Verdict.PASS} else Verdict.INCONCLUSIVE


def _decide(gate: GateSpec, sheets: Mapping[str, Sheet], min_items: int) -> Decision:
    sheet = sheets.get(gate.suite)
    if sheet is None:
        raise _Unable(f"the evaluation had no suite {gate.suite!r}")
    score = sheet.score(sheet.candidate.name, gate.metric)
    if score is None:
        raise _Unable(f"{gate.metric} is not measured on suite {gate.suite!r} for a task of this output format")
    keep = _kept(gate, sheet)
    _check_size(gate, score, keep, min_items)
    if gate.kind == "floor":
        return _floor(gate, score, keep)
    other = sheet.score(gate.against or "", gate.metric)
    if other is None:
        raise _Unable(f"the evaluation had no arm {gate.against!r} on suite {gate.suite!r}")
    _check_scored(gate, other, keep)
    if gate.weighted:
        _check_mix(sheet)
    difference = score.minus(other, keep, sheet.mix if gate.weighted else None)
    bound = -gate.margin if gate.kind == "non_inferiority" else gate.margin
    return _beyond_tilt(score, lambda tilt: superiority(difference, bound + tilt, gate.alpha))


def _beyond_tilt(score: Score, decide: Callable[[float], Decision]) -> Decision:
    """A decision that holds however the judge is biased within what experts' votes leave open.

    A judge that agrees often may still favour one arm, so its word passes only where it would with the bound moved up
    by all it may favour the candidate, and fails only with the bound moved down by as much.
    """
    tilt = score.column.tilt
    if not tilt:
        return decide(0.0)
    strict, lenient = decide(tilt), decide(-tilt)
    told = f"(the bound is moved by {tilt:.3f}, by which this judge may favour an arm)"
    if lenient.verdict is Verdict.FAIL:
        return replace(lenient, reason=f"{lenient.reason} {told}")
    if strict.verdict is Verdict.FAIL:
        numbers = strict.reason.partition(": ")[2]
        reason = f"the judge's bias may be all of it: {numbers} {told}"
        return replace(strict, verdict=Verdict.INCONCLUSIVE, reason=reason, more_needed=None)
    return replace(strict, reason=f"{strict.reason} {told}")


def _kept(gate: GateSpec, sheet: Sheet) -> list[int] | None:
    if gate.slice is None:
        return None
    if gate.slice not in sheet.slices:
        there = ", ".join(sheet.slices) or "none"
        raise _Unable(f"suite {gate.suite!r} has no items of category {gate.slice!r} (there are: {there})")
    return sheet.slices[gate.slice]


def _check_size(gate: GateSpec, score: Score, keep: Sequence[int] | None, min_items: int) -> None:
    items = len(score.groups) if keep is None else len(keep)
    if keep is None and gate.suite == TASK_SUITE and items < min_items:
        lacking = min_items - items
        raise _Unable(
            f"{items} items are fewer than the {min_items} that this task asks for: about {lacking} more needed",
            lacking,
        )
    _check_scored(gate, score, keep)


def _check_scored(gate: GateSpec, score: Score, keep: Sequence[int] | None) -> None:
    if score.column.doubt is not None:
        raise _Unable(f"{gate.metric} decides nothing: {score.column.doubt}")
    items, missing = len(score.groups) if keep is None else len(keep), score.missing(keep)
    unscored = missing - sum(1 for place in score.column.open if keep is None or place in keep)
    if unscored > MOST_UNSCORED * max(1, items):
        first = next(iter((score.column.failures or {}).values()), "no reason given")
        raise _Unable(f"{gate.metric} failed on {unscored} of {items} items, first: {first}")


def _check_mix(sheet: Sheet) -> None:
    if sheet.mix is None:
        raise _Unable("no traffic mix that this suite covers is known: name one in evaluation.traffic")
    if sheet.uncovered > MOST_UNCOVERED:
        missing = ", ".join(sorted(name for name in sheet.mix if name not in sheet.slices)[:5])
        raise _Unable(
            f"the suite has no items for {sheet.uncovered:.0%} of the traffic ({missing}):"
            " what it shows of the rest does not decide"
        )


def _floor(gate: GateSpec, score: Score, keep: Sequence[int] | None) -> Decision:
    at_least = gate.at_least or 0.0
    return _beyond_tilt(score, lambda tilt: _floor_at(gate, score, keep, at_least + tilt))


def _floor_at(gate: GateSpec, score: Score, keep: Sequence[int] | None, at_least: float) -> Decision:
    places = score.scored(keep)
    groups = [score.groups[place] for place in places]
    if score.column.corpus is not None and score.column.statistics is not None:
        value = corpus_estimate(score.column.statistics[places], score.column.corpus, groups)
        return floor_of(value, at_least, gate.alpha)
    return floor_of_mean(score.values(places), at_least, gate.alpha, clusters=groups)


def _result(gate: GateSpec, verdict: Verdict, reason: str, decision: Decision | None) -> GateResult:
    return GateResult(
        gate=gate.name,
        verdict=verdict,
        reason=reason,
        metric=gate.metric,
        against=gate.against if gate.kind != "floor" else None,
        slice=gate.slice,
        estimate=decision.estimate if decision is not None else None,
    )
