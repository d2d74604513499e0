"""The report: every metric of every arm with its interval, slices, gates, examples and the passport of the scores."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from libs.contracts.errors import DataLoss
from libs.contracts.events import Estimate, GateResult, Verdict
from libs.contracts.inference import Provenance
from libs.contracts.task import GateSpec, OutputSpec
from libs.statistics.clusters import design_effect
from libs.statistics.gates import Decision, floor, non_inferiority, superiority
from libs.statistics.multiplicity import holm
from libs.statistics.paired import mcnemar, paired_difference
from libs.statistics.proportions import wilson
from services.evaluator.domain.scoring import EXACT_MATCH, SIGNATURES, metrics_of, score, validity
from services.evaluator.domain.suite import Item

EXAMPLES = 10
SCHEMA = "pawl.report/1"


@dataclass(frozen=True, slots=True)
class Answer:
    """What an arm answered to an item; `error` where serving refused it (it counts as wrong)."""

    item_id: str
    text: str
    provenance: Provenance
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Arm:
    """One contender with its answers by item id; two names may share one version."""

    name: str
    version: int
    digest: str
    answers: Mapping[str, Answer]


@dataclass(frozen=True, slots=True)
class Subject:
    """What the report is about."""

    report_id: str
    tenant: str
    task: str
    suite_digest: str
    dataset_digest: str


@dataclass(frozen=True, slots=True)
class Report:
    """A finished evaluation; `document` is the canonical JSON that is stored."""

    verdict: Verdict
    gates: tuple[GateResult, ...]
    arms: dict[str, dict[str, Estimate]]
    slices: dict[str, dict[str, dict[str, Estimate]]]
    document: bytes


@dataclass(frozen=True, slots=True)
class _Scores:
    """Scores by arm and metric, in the order of the items."""

    items: tuple[Item, ...]
    values: Mapping[str, Mapping[str, tuple[float, ...]]]

    def of(self, arm: str, metric: str, keep: Sequence[int] | None = None) -> list[float]:
        values = self.values[arm][metric]
        return list(values) if keep is None else [values[index] for index in keep]

    def groups(self, keep: Sequence[int] | None = None) -> list[str]:
        groups = [item.group for item in self.items]
        return groups if keep is None else [groups[index] for index in keep]


def build_report(
    subject: Subject,
    items: tuple[Item, ...],
    candidate: Arm,
    baselines: Sequence[Arm],
    gates: Sequence[GateSpec],
    output: OutputSpec,
) -> Report:
    """Score all arms, decide the gates and write it all down. The same inputs give the same bytes."""
    arms = (candidate, *baselines)
    scores = _Scores(items, {arm.name: _score_arm(arm, items, output) for arm in arms})
    trouble = incomparable(arms)
    decisions = {gate.name: _decide(gate, candidate.name, scores, trouble) for gate in gates}
    adjusted = holm({name: decision.p_value for name, decision in decisions.items() if decision is not None})
    results = tuple(_result(gate, decisions[gate.name], candidate.name, scores, trouble) for gate in gates)
    verdict = overall(results)
    estimates = {arm.name: _estimates(scores, arm.name) for arm in arms}
    slices = _slices(scores, [arm.name for arm in arms])
    document = {
        "schema": SCHEMA,
        "report_id": subject.report_id,
        "tenant": subject.tenant,
        "task": subject.task,
        "version": candidate.version,
        "verdict": verdict.value,
        "gates": [{**result.model_dump(mode="json"), "holm_p_value": adjusted.get(result.gate)} for result in results],
        "contenders": {arm.name: {"version": arm.version, "digest": arm.digest} for arm in arms},
        "arms": _dump(estimates),
        "differences": {}
        if trouble
        else {arm.name: _differences(scores, candidate.name, arm.name) for arm in baselines},
        "slices": {name: _dump(by_arm) for name, by_arm in slices.items()},
        "passport": _passport(subject, arms, output, len(items), trouble),
        "examples": {arm.name: _examples(scores, candidate, arm) for arm in baselines},
        "items": [_item(index, item, arms, scores) for index, item in enumerate(items)],
    }
    data = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    return Report(verdict, results, estimates, slices, data)


def overall(results: Sequence[GateResult]) -> Verdict:
    """Pass when every gate passes, fail when one fails. Without any gate nothing was shown."""
    if any(result.verdict is Verdict.FAIL for result in results):
        return Verdict.FAIL
    return Verdict.PASS if results and all(r.verdict is Verdict.PASS for r in results) else Verdict.INCONCLUSIVE


def incomparable(arms: Sequence[Arm]) -> str | None:
    """Why scores of these arms must not be subtracted, or None: all must come from one base, tokenizer and template."""
    for what in ("base_digest", "tokenizer_digest", "template_digest"):
        seen = {getattr(answer.provenance, what) for arm in arms for answer in arm.answers.values() if not answer.error}
        if len(seen) > 1:
            return f"answers come from {len(seen)} different values of {what}: {', '.join(sorted(seen))}"
    return None


def _score_arm(arm: Arm, items: Sequence[Item], output: OutputSpec) -> dict[str, tuple[float, ...]]:
    missing = [item.item_id for item in items if item.item_id not in arm.answers]
    if missing:
        raise DataLoss(f"arm {arm.name} has no answer to {len(missing)} items, the first is {missing[0]!r}")
    valid = validity(output)
    return {
        metric: tuple(
            0.0
            if arm.answers[item.item_id].error
            else score(metric, arm.answers[item.item_id].text, item.answer, valid)
            for item in items
        )
        for metric in metrics_of(output)
    }


def _decide(gate: GateSpec, candidate: str, scores: _Scores, trouble: str | None) -> Decision | None:
    if gate.metric not in scores.values[candidate]:
        return None
    if gate.kind == "floor":
        values, groups = scores.of(candidate, gate.metric), scores.groups()
        effect = design_effect(values, groups)
        return floor(int(sum(values)), len(values), gate.at_least or 0.0, gate.alpha, design_effect=effect)
    if gate.against is None or gate.against not in scores.values or trouble is not None:
        return None
    difference = paired_difference(
        scores.of(candidate, gate.metric), scores.of(gate.against, gate.metric), scores.groups()
    )
    decide = superiority if gate.kind == "superiority" else non_inferiority
    return decide(difference, gate.margin, gate.alpha)


def _result(
    gate: GateSpec, decision: Decision | None, candidate: str, scores: _Scores, trouble: str | None
) -> GateResult:
    if decision is not None:
        verdict, reason, estimate = decision.verdict, decision.reason, decision.estimate
    else:
        verdict, estimate = Verdict.INCONCLUSIVE, None
        if gate.metric not in scores.values[candidate]:
            reason = f"{gate.metric} is not measured for a task of this output format"
        else:
            reason = trouble or f"the evaluation had no arm {gate.against!r}"
    return GateResult(
        gate=gate.name,
        verdict=verdict,
        reason=reason,
        metric=gate.metric,
        against=gate.against if gate.kind != "floor" else None,
        estimate=estimate,
    )


def _estimates(scores: _Scores, arm: str, keep: Sequence[int] | None = None) -> dict[str, Estimate]:
    found = {}
    for metric in scores.values[arm]:
        values = scores.of(arm, metric, keep)
        effect = design_effect(values, scores.groups(keep))
        found[metric] = wilson(int(sum(values)), len(values), design_effect=effect)
    return found


def _slices(scores: _Scores, arms: Sequence[str]) -> dict[str, dict[str, dict[str, Estimate]]]:
    members: dict[str, list[int]] = {}
    for index, item in enumerate(scores.items):
        if item.category is not None:
            members.setdefault(item.category, []).append(index)
    return {name: {arm: _estimates(scores, arm, members[name]) for arm in arms} for name in sorted(members)}


def _differences(scores: _Scores, candidate: str, baseline: str) -> dict[str, Any]:
    found = {}
    for metric in scores.values[candidate]:
        difference = paired_difference(scores.of(candidate, metric), scores.of(baseline, metric), scores.groups())
        found[metric] = {
            **difference.interval().model_dump(),
            "wins": difference.wins,
            "losses": difference.losses,
            "clusters": difference.clusters,
            "design_effect": difference.design_effect,
            "mcnemar_p_value": mcnemar(difference.wins, difference.losses),
        }
    return found


def _passport(
    subject: Subject, arms: Sequence[Arm], output: OutputSpec, items: int, trouble: str | None
) -> dict[str, Any]:
    def seen(what: str) -> list[str]:
        return sorted({getattr(answer.provenance, what) for arm in arms for answer in arm.answers.values()} - {""})

    return {
        "suite_digest": subject.suite_digest,
        "dataset_digest": subject.dataset_digest,
        "items": items,
        "base_digests": seen("base_digest"),
        "tokenizer_digests": seen("tokenizer_digest"),
        "template_digests": seen("template_digest"),
        "comparable": trouble is None,
        "engine_mode": "served through the gateway, greedy",
        "sampling": {"temperature": 0, "max_tokens": output.max_tokens},
        "metrics": {metric: SIGNATURES[metric] for metric in metrics_of(output)},
        "intervals": "arms: Wilson 95 % with design effect; differences: clustered t and Tango, the wider, 95 %",
    }


def _examples(scores: _Scores, candidate: Arm, baseline: Arm) -> dict[str, list[dict[str, Any]]]:
    ours, theirs = scores.of(candidate.name, EXACT_MATCH), scores.of(baseline.name, EXACT_MATCH)

    def pick(wanted: float) -> list[dict[str, Any]]:
        chosen = [index for index in range(len(ours)) if ours[index] - theirs[index] == wanted][:EXAMPLES]
        return [
            {
                "item_id": scores.items[index].item_id,
                "category": scores.items[index].category,
                "input": scores.items[index].messages[-1].content,
                "answer": scores.items[index].answer,
                candidate.name: candidate.answers[scores.items[index].item_id].text,
                baseline.name: baseline.answers[scores.items[index].item_id].text,
            }
            for index in chosen
        ]

    return {"wins": pick(1.0), "losses": pick(-1.0)}


def _item(index: int, item: Item, arms: Sequence[Arm], scores: _Scores) -> dict[str, Any]:
    return {
        "item_id": item.item_id,
        "category": item.category,
        "group": item.group,
        "answer": item.answer,
        "arms": {
            arm.name: {
                "text": arm.answers[item.item_id].text,
                "error": arm.answers[item.item_id].error,
                **{metric: scores.values[arm.name][metric][index] for metric in scores.values[arm.name]},
            }
            for arm in arms
        },
    }


def _dump(estimates: Mapping[str, Mapping[str, Estimate]]) -> dict[str, Any]:
    return {arm: {metric: estimate.model_dump() for metric, estimate in row.items()} for arm, row in estimates.items()}
