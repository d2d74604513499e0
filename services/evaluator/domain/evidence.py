"""What a rollout's ledger shows so far: three-valued assessments that stay valid however often they are made."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from libs.contracts.estimates import Verdict
from libs.contracts.events import Assessment, SegmentEvidence
from libs.contracts.inference import Role
from libs.contracts.task import CanarySpec, ShadowSpec, TaskSpec
from libs.statistics.bounded import log_evidence_above, log_evidence_below
from libs.statistics.evidence import log_mean, plain
from libs.statistics.harm import HarmProcess
from services.evaluator.domain.segments import BUDGET, ClosedWindow, SegmentTally, judge_segments

SHADOW = "shadow"
CANARY = "canary"
WATCHED = (SHADOW, CANARY)


@dataclass(frozen=True, slots=True)
class Watch:
    """One stage of a rollout under observation; evidence is carried over all watches of a turn."""

    tenant: str
    task: str
    generation: int
    turn_id: str
    stage: str
    version: int
    stable_version: int
    share: float
    spec: TaskSpec
    traceparent: str | None
    started_at: float

    @property
    def key(self) -> tuple[str, str]:
        """Tenant and task."""
        return self.tenant, self.task


@dataclass(frozen=True, slots=True)
class PairOutcome:
    """`count` pairs of one kind. `stable_right`, `shadow_right` are None where nobody said what the right answer was;
    the validities are None where the task has no schema.
    """

    count: int
    stable_right: bool | None
    shadow_right: bool | None
    stable_valid: bool | None
    shadow_valid: bool | None


@dataclass(frozen=True, slots=True)
class Mark:
    """How much of the ledger an assessment saw: everything up to these places, and nothing after them.

    `requests` and `outcomes` are positions in the ledger, `windows` the number of the turn's last closed window; the
    cursors are the stream sequences read up to by then.
    """

    requests: int = 0
    outcomes: int = 0
    windows: int = 0
    inference_cursor: int = 0
    outcome_cursor: int = 0


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of the stage under watch, per role, and how much of the ledger they are about."""

    requests: dict[str, int] = field(default_factory=dict)
    windows: dict[str, int] = field(default_factory=dict)
    bad_windows: dict[str, int] = field(default_factory=dict)
    mark: Mark = Mark()
    segments: Mapping[str, SegmentTally] = field(default_factory=dict)
    """Windows of the stage by segment."""


def assess_shadow(watch: Watch, pairs: Iterable[PairOutcome], tally: Tally, now: datetime) -> Assessment:
    """Judge shadow pairs.

    The score of a pair is correct(shadow) - correct(stable). Only pairs whose right answer is known enter: feedback is
    about the stable answer alone, so it picks pairs without regard to the shadow's; counting the pairs that happen to
    agree as ties, where nobody said anything, would dilute losses until any challenger looked non-inferior. Validity
    by the task's schema is seen on every pair and is judged beside it, as a second way to be found inferior.
    """
    shadow = watch.spec.rollout.shadow
    scores: dict[float, int] = {}
    valid: dict[float, int] = {}
    for pair in pairs:
        if pair.stable_right is not None and pair.shadow_right is not None:
            score = float(pair.shadow_right) - float(pair.stable_right)
            scores[score] = scores.get(score, 0) + pair.count
        if pair.stable_valid is not None and pair.shadow_valid is not None:
            score = float(pair.shadow_valid) - float(pair.stable_valid)
            valid[score] = valid.get(score, 0) + pair.count
    verdict, evidence, reason = _judge_pairs(shadow, scores, valid)
    return _assessment(
        watch, verdict, evidence, reason, shadow.alpha, tally, now,
        pairs=sum(scores.values()), wins=scores.get(1.0, 0), losses=scores.get(-1.0, 0), ties=scores.get(0.0, 0),
    )  # fmt: skip


def _judge_pairs(shadow: ShadowSpec, scores: dict[float, int], valid: dict[float, int]) -> tuple[Verdict, float, str]:
    needed = math.log(1.0 / shadow.alpha)
    superior = log_evidence_above(scores, 0.0)
    not_inferior = log_evidence_above(scores, -shadow.margin) if shadow.margin < 1.0 else superior
    inferior = [log_evidence_below(scores, -shadow.margin)]
    if valid:
        inferior.append(log_evidence_below(valid, -shadow.margin))
    # The mean of e-values is an e-value, so two ways to be found inferior cost no error rate.
    worse = log_mean(inferior)
    count = sum(scores.values())
    numbers = (
        f"{count} pairs: {scores.get(1.0, 0)} won, {scores.get(-1.0, 0)} lost, {scores.get(0.0, 0)} tied; "
        f"evidence of superiority {plain(superior):.3g}, of non-inferiority within {shadow.margin:g} "
        f"{plain(not_inferior):.3g}, of inferiority {plain(worse):.3g}; needed {1.0 / shadow.alpha:.3g}"
    )
    if valid:
        numbers += (
            f"; validity lost in {valid.get(-1.0, 0)} and won in {valid.get(1.0, 0)} of {sum(valid.values())} pairs"
        )
    if worse >= needed:
        return Verdict.FAIL, plain(worse), f"inferior: {numbers}"
    if max(superior, not_inferior) >= needed:
        what = "superior" if superior >= needed else "non-inferior"
        if count >= shadow.min_pairs:
            return Verdict.PASS, plain(max(superior, not_inferior)), f"{what}: {numbers}"
        return (
            Verdict.INCONCLUSIVE,
            plain(max(superior, not_inferior)),
            (f"{what}, but fewer than {shadow.min_pairs} pairs: {numbers}"),
        )
    return Verdict.INCONCLUSIVE, plain(max(superior, not_inferior)), f"not decided: {numbers}"


def assess_canary(watch: Watch, bad: Sequence[ClosedWindow], tally: Tally, now: datetime) -> Assessment:
    """Judge canary windows for harm only, as a whole and in each segment of users.

    `bad` holds the bad windows of the whole turn in the order in which they were closed; evidence is carried across
    steps. A unit counts in it once, by its first bad window: assignment is sticky, so a second one would show the same
    toss of the coin again.
    """
    canary = watch.spec.rollout.canary
    process = HarmProcess(canary.harm_ratio)
    seen: set[str] = set()
    for window in bad:
        if window.unit not in seen:
            seen.add(window.unit)
            process.update(window.role is Role.CANARY, window.rho)
    verdict, evidence, reason = _judge_harm(canary, process, tally, watch.share)
    segments = judge_segments(canary, bad, tally.segments)
    return _assessment(watch, verdict, evidence, reason, _alpha_of_whole(canary), tally, now, segments=segments)


def _alpha_of_whole(canary: CanarySpec) -> float:
    return (1.0 - BUDGET) * canary.alpha


def _judge_harm(canary: CanarySpec, process: HarmProcess, tally: Tally, share: float) -> tuple[Verdict, float, str]:
    closed = tally.windows.get(Role.CANARY, 0)
    numbers = (
        f"at {share:.0%} of users {tally.bad_windows.get(Role.CANARY, 0)} of {closed} canary windows and "
        f"{tally.bad_windows.get(Role.STABLE, 0)} of {tally.windows.get(Role.STABLE, 0)} stable windows were bad; "
        f"evidence of harm {plain(process.log_evidence):.3g} (highest {plain(process.peak):.3g}) "
        f"from {process.bad} users; needed {1.0 / _alpha_of_whole(canary):.3g}"
    )
    if process.peak >= math.log(1.0 / _alpha_of_whole(canary)):
        return Verdict.FAIL, plain(process.peak), f"harm: {numbers}"
    if closed >= canary.min_windows:
        return Verdict.PASS, plain(process.log_evidence), f"no harm seen: {numbers}"
    return (
        Verdict.INCONCLUSIVE,
        plain(process.log_evidence),
        f"fewer than {canary.min_windows} canary windows: {numbers}",
    )


def _assessment(
    watch: Watch,
    verdict: Verdict,
    evidence: float,
    reason: str,
    alpha: float,
    tally: Tally,
    now: datetime,
    *,
    pairs: int = 0,
    wins: int = 0,
    losses: int = 0,
    ties: int = 0,
    segments: Mapping[str, SegmentEvidence] | None = None,
) -> Assessment:
    return Assessment(
        tenant=watch.tenant,
        task=watch.task,
        generation=watch.generation,
        stage=watch.stage,
        version=watch.version,
        verdict=verdict,
        reason=reason,
        e_value=evidence,
        alpha=alpha,
        pairs=pairs,
        wins=wins,
        losses=losses,
        ties=ties,
        windows=tally.windows,
        bad_windows=tally.bad_windows,
        requests=tally.requests,
        segments=dict(segments or {}),
        inference_cursor=tally.mark.inference_cursor,
        outcome_cursor=tally.mark.outcome_cursor,
        ledger={"requests": tally.mark.requests, "outcomes": tally.mark.outcomes, "windows": tally.mark.windows},
        assessed_at=now,
    )


def mark_of(assessment: Assessment) -> Mark | None:
    """How much of the ledger a published assessment saw; None for one from before it was written down."""
    if not assessment.ledger:
        return None
    read = {"inference_cursor": assessment.inference_cursor, "outcome_cursor": assessment.outcome_cursor}
    return Mark(**assessment.ledger, **read)


def differences(published: Assessment, recomputed: Assessment) -> list[str]:
    """Where two assessments of the same evidence differ, field by field; empty when they are equal."""
    mine, theirs = published.model_dump(mode="json"), recomputed.model_dump(mode="json")
    return [
        f"{name}: published {mine[name]!r}, recomputed {theirs[name]!r}"
        for name in mine
        if name != "assessed_at" and not _same(mine[name], theirs[name])
    ]


def _same(left: object, right: object) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        # The same sums on another machine may round differently in the last digits.
        return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-12)
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[name], right[name]) for name in left)
    return left == right


@dataclass(frozen=True, slots=True)
class Check:
    """One published conclusion, looked at again: `finding` is equal, different or pruned."""

    turn_id: str
    kind: str
    what: str
    verdict: str
    finding: str
    differences: tuple[str, ...]
    document: dict[str, Any]


def checked(turn_id: str, published: Assessment, number: int, found: list[str] | None) -> Check:
    """The check of an assessment; `found` is None where its evidence is kept no more."""
    finding = "pruned" if found is None else "different" if found else "equal"
    what = f"{published.stage} {published.generation} #{number}"
    document = published.model_dump(mode="json")
    return Check(turn_id, "assessment", what, published.verdict.value, finding, tuple(found or ()), document)
