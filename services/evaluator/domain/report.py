"""The report: every metric of every arm with its interval, slices, gates, examples and the passport of the scores."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from libs.contracts.estimates import Estimate, Verdict
from libs.contracts.events import GateResult
from libs.contracts.task import EvaluationSpec, OutputSpec, PriceSpec
from libs.contracts.task.evaluation import TASK_SUITE
from libs.statistics.multiplicity import benjamini_hochberg, holm
from libs.statistics.paired import PairedDifference, mcnemar
from services.evaluator.domain.advice import cost_of, recommend, reused
from services.evaluator.domain.answers import ENGINE_MODE, Arm
from services.evaluator.domain.gates import Ruling, baseline_ruling, decided, overall, rule
from services.evaluator.domain.noise import Noise
from services.evaluator.domain.scores import Difference, Incomparable
from services.evaluator.domain.sheet import Sheet

EXAMPLES = 10
SCHEMA = "pawl.report/3"


@dataclass(frozen=True, slots=True)
class Subject:
    """What the report is about."""

    report_id: str
    tenant: str
    task: str
    suite_digest: str
    dataset_digest: str


@dataclass(frozen=True, slots=True)
class Setting:
    """How the evaluation was made. `kinds` says of each arm its kind, and behind a slash which version it asks."""

    spec: EvaluationSpec
    max_tokens: int
    kinds: Mapping[str, str] = field(default_factory=dict)
    traffic: Mapping[str, float] = field(default_factory=dict)
    power: Sequence[str] = ()
    noise: Noise | None = None
    prices: Mapping[str, PriceSpec] = field(default_factory=dict)
    traffic_source: str = ""
    first: GateResult | None = None
    """The gate before all others, decided outside of the sheets: that what is served is what was trained."""
    output: OutputSpec = field(default_factory=OutputSpec)
    """What a valid answer is, for whoever scores the texts again."""


@dataclass(frozen=True, slots=True)
class Report:
    """A finished evaluation; `document` is the canonical JSON that is stored."""

    verdict: Verdict
    gates: tuple[GateResult, ...]
    arms: dict[str, dict[str, Estimate]]
    slices: dict[str, dict[str, dict[str, Estimate]]]
    document: bytes


def build_report(subject: Subject, sheets: Mapping[str, Sheet], setting: Setting) -> Report:
    """Decide the gates and write it all down. The same inputs give the same bytes. `sheets` holds the task's suite."""
    sheet, spec = sheets[TASK_SUITE], setting.spec
    rulings = [rule(gate, sheets, spec.suite.min_items) for gate in spec.gates]
    untrained = baseline_ruling(sheet, setting.kinds or {arm.name: arm.name for arm in sheet.arms}, spec.primary)
    rulings += [untrained] if untrained is not None else []
    rulings = [*([decided(setting.first)] if setting.first is not None else []), *rulings]
    results = tuple(ruling.result for ruling in rulings)
    verdict = overall([result.verdict for result in results])
    told = _of_sheet(sheet, setting, subject)
    costs = {arm.name: cost_of(arm, subject.report_id, setting.prices.get(arm.name)) for arm in sheet.arms}
    document = {
        "schema": SCHEMA,
        "report_id": subject.report_id,
        "tenant": subject.tenant,
        "task": subject.task,
        "version": sheet.candidate.version,
        "verdict": verdict.value,
        "gates": _gates(rulings),
        "evaluation": spec.model_dump(mode="json"),
        "output": setting.output.model_dump(mode="json"),
        "power": list(setting.power),
        "contenders": {arm.name: _contender(arm) for arm in sheet.arms},
        "kinds": {arm.name: setting.kinds.get(arm.name, arm.name) for arm in sheet.arms},
        **told,
        "costs": {name: cost.dump() for name, cost in costs.items()},
        "recommendation": recommend(
            sheet, spec.primary, setting.kinds or {arm.name: arm.name for arm in sheet.arms}, costs, spec.close_enough
        ),
        "noise": setting.noise.dump() if setting.noise is not None else None,
        "traffic": {
            "shares": dict(setting.traffic),
            "source": setting.traffic_source,
            "uncovered": sorted(name for name in setting.traffic if name not in sheet.slices),
            "uncovered_share": sheet.uncovered,
        },
        "passport": _passport(subject, sheets, setting),
        "suites": {
            name: {"kind": each.suite.kind, "digest": each.suite.digest, **_of_sheet(each, setting, subject)}
            for name, each in sheets.items()
            if name != TASK_SUITE
        },
    }
    data = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    return Report(verdict, results, _estimates(sheet), _slices(sheet), data)


def _of_sheet(sheet: Sheet, setting: Setting, subject: Subject) -> dict[str, Any]:
    others = sheet.arms[1:]
    return {
        "order": [arm.name for arm in sheet.arms],
        "metrics": list(sheet.metrics),
        "primary": _primary(sheet, setting),
        "judges": _judges(sheet),
        "arms": _dump(_estimates(sheet)),
        "weighted": _weighted(sheet),
        "differences": {arm.name: found for arm in others if (found := _differences(sheet, arm.name, setting))},
        "incomparable": {arm.name: why for arm in others if (why := _incomparable(sheet, arm.name))},
        "slices": {name: _dump(by_arm) for name, by_arm in _slices(sheet).items()},
        "slice_differences": {arm.name: _slice_differences(sheet, arm.name, setting) for arm in others},
        "examples": {arm.name: _examples(sheet, arm, setting) for arm in others},
        "items": [_item(place, sheet, subject) for place in range(len(sheet.suite.items))],
    }


def _gates(rulings: Sequence[Ruling]) -> list[dict[str, Any]]:
    adjusted = holm({each.gate.name: each.p_value for each in rulings if each.p_value is not None})
    return [
        {
            **each.result.model_dump(mode="json"),
            "kind": each.gate.kind,
            "suite": each.gate.suite,
            "bound": each.gate.at_least if each.gate.kind == "floor" else _bound(each),
            "alpha": each.gate.alpha,
            "p_value": each.p_value,
            "holm_p_value": adjusted.get(each.gate.name),
            "more_needed": each.more_needed,
        }
        for each in rulings
    ]


def _bound(ruling: Ruling) -> float:
    return -ruling.gate.margin if ruling.gate.kind == "non_inferiority" else ruling.gate.margin


def _contender(arm: Arm) -> dict[str, Any]:
    # Two names for one and the same answerer say the same here.
    return {"version": arm.version, "digest": arm.digest, "engine": arm.engine or ENGINE_MODE, "recipe": arm.recipe}


def _estimates(sheet: Sheet, keep: Sequence[int] | None = None) -> dict[str, dict[str, Estimate]]:
    return {
        arm: {metric: score.estimate(keep) for metric, score in scores.items()} for arm, scores in sheet.scores.items()
    }


def _slices(sheet: Sheet) -> dict[str, dict[str, dict[str, Estimate]]]:
    return {name: _estimates(sheet, places) for name, places in sheet.slices.items()}


def _weighted(sheet: Sheet) -> dict[str, Any]:
    if sheet.mix is None:
        return {}
    weighed = {
        arm: {metric: score.estimate(mix=sheet.mix) for metric, score in scores.items()}
        for arm, scores in sheet.scores.items()
    }
    return _dump(weighed)


def _subtract(sheet: Sheet, baseline: str, metric: str, keep: Sequence[int] | None = None) -> Difference | str | None:
    mine, theirs = sheet.score(sheet.candidate.name, metric), sheet.score(baseline, metric)
    if mine is None or theirs is None:
        return None
    try:
        return mine.minus(theirs, keep)
    except Incomparable as error:
        return str(error)


def _incomparable(sheet: Sheet, baseline: str) -> dict[str, str]:
    found = {metric: _subtract(sheet, baseline, metric) for metric in sheet.metrics}
    return {metric: why for metric, why in found.items() if isinstance(why, str)}


def _differences(sheet: Sheet, baseline: str, setting: Setting) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for metric in sheet.metrics:
        difference = _subtract(sheet, baseline, metric)
        if difference is None or isinstance(difference, str):
            continue
        estimate = difference.interval()
        row: dict[str, Any] = {"clusters": difference.clusters}
        score = sheet.score(sheet.candidate.name, metric)
        if score is not None and score.column.corpus is None:
            wins, losses = _won_and_lost(sheet, baseline, metric)
            row |= {"wins": wins, "losses": losses, "mcnemar_p_value": mcnemar(wins, losses)}
        if isinstance(difference, PairedDifference):
            row["design_effect"] = difference.design_effect
        noisy = setting.noise is not None and setting.noise.below(metric, estimate.value, estimate.n, baseline)
        found[metric] = {**estimate.model_dump(), **row, "below_noise": noisy}
    return found


def _won_and_lost(sheet: Sheet, baseline: str, metric: str) -> tuple[int, int]:
    mine, theirs = sheet.score(sheet.candidate.name, metric), sheet.score(baseline, metric)
    assert mine is not None
    assert theirs is not None
    pairs = [
        (left, right)
        for left, right in zip(mine.column.scores, theirs.column.scores, strict=True)
        if left is not None and right is not None
    ]
    return sum(left > right for left, right in pairs), sum(left < right for left, right in pairs)


def _judges(sheet: Sheet) -> dict[str, Any]:
    """Of each metric that a judge gives: why no gate may rest on it, how far it may favour an arm, by which votes."""
    columns = {metric: score.column for metric, score in sheet.scores[sheet.candidate.name].items()}
    return {
        metric: {"doubt": each.doubt, "tilt": each.tilt, "seen": each.admission}
        for metric, each in columns.items()
        if each.doubt is not None or each.tilt or each.admission
    }


def _primary(sheet: Sheet, setting: Setting) -> str:
    """The task's primary metric, or the first of a suite that is not scored by it."""
    return setting.spec.primary if setting.spec.primary in sheet.metrics else sheet.metrics[0]


def _slice_differences(sheet: Sheet, baseline: str, setting: Setting) -> dict[str, Any]:
    """By the primary metric; the p-values are adjusted for the number of slices (Benjamini & Hochberg 1995)."""
    metric = _primary(sheet, setting)
    rows: dict[str, dict[str, Any]] = {}
    for name, places in sheet.slices.items():
        difference = _subtract(sheet, baseline, metric, places)
        if difference is not None and not isinstance(difference, str):
            p_value = min(1.0, 2.0 * min(difference.p_greater(0.0), difference.p_less(0.0)))
            estimate = difference.interval()
            noisy = setting.noise is not None and setting.noise.below(metric, estimate.value, estimate.n, baseline)
            rows[name] = {**estimate.model_dump(), "p_value": p_value, "below_noise": noisy}
    for name, adjusted in benjamini_hochberg({name: row["p_value"] for name, row in rows.items()}).items():
        rows[name]["bh_p_value"] = adjusted
    return rows


def _examples(sheet: Sheet, baseline: Arm, setting: Setting) -> dict[str, list[dict[str, Any]]]:
    metric = _primary(sheet, setting)
    mine, theirs = sheet.score(sheet.candidate.name, metric), sheet.score(baseline.name, metric)
    gaps = []
    if mine is not None and theirs is not None:
        for place, (left, right) in enumerate(zip(mine.column.scores, theirs.column.scores, strict=True)):
            if left is not None and right is not None and left != right:
                gaps.append((left - right, place))

    def told(gap: float, place: int) -> dict[str, Any]:
        item = sheet.suite.items[place]
        return {
            "item_id": item.item_id,
            "category": item.category,
            "input": item.messages[-1].content,
            "answer": item.answer,
            "difference": gap,
            sheet.candidate.name: sheet.candidate.answers[item.item_id].text,
            baseline.name: baseline.answers[item.item_id].text,
        }

    won = sorted((gap for gap in gaps if gap[0] > 0), key=lambda gap: (-gap[0], gap[1]))
    lost = sorted((gap for gap in gaps if gap[0] < 0), key=lambda gap: (gap[0], gap[1]))
    return {
        "wins": [told(gap, place) for gap, place in won[:EXAMPLES]],
        "losses": [told(gap, place) for gap, place in lost[:EXAMPLES]],
    }


def _item(place: int, sheet: Sheet, subject: Subject) -> dict[str, Any]:
    item = sheet.suite.items[place]

    def told(arm: Arm) -> dict[str, Any]:
        answer = arm.answers[item.item_id]
        scores = {metric: score.column.scores[place] for metric, score in sheet.scores[arm.name].items()}
        failures = {
            metric: score.column.failures[place]
            for metric, score in sheet.scores[arm.name].items()
            if score.column.failures and place in score.column.failures
        }
        return {
            "text": answer.text,
            "error": answer.error,
            **scores,
            **({"unscored": failures} if failures else {}),
            **({"reused_from": answer.made_in} if reused(answer, subject.report_id) else {}),
        }

    return {
        "item_id": item.item_id,
        "category": item.category,
        "group": item.group,
        "answer": item.answer,
        "arms": {arm.name: told(arm) for arm in sheet.arms},
    }


def _passport(subject: Subject, sheets: Mapping[str, Sheet], setting: Setting) -> dict[str, Any]:
    sheet = sheets[TASK_SUITE]
    scores = [score for by_metric in sheet.scores.values() for score in by_metric.values()]

    def seen(what: str) -> list[str]:
        return sorted({digest for score in scores for digest in getattr(score.passport, what)})

    return {
        "suite_digest": subject.suite_digest,
        "dataset_digest": subject.dataset_digest,
        "items": len(sheet.suite.items),
        "base_digests": seen("bases"),
        "tokenizer_digests": seen("tokenizers"),
        "template_digests": seen("templates"),
        "comparable": not any(_incomparable(sheet, arm.name) for arm in sheet.arms[1:]),
        "engine_mode": ENGINE_MODE,
        "sampling": {"temperature": 0, "max_tokens": setting.max_tokens},
        "metrics": {name: score.passport.signature for name, score in sheet.scores[sheet.candidate.name].items()},
        "suites": {name: each.suite.digest for name, each in sheets.items()},
        "intervals": "95 %; scores: Wilson's score method on the clustered variance with Student's quantile; corpus"
        " metrics: bootstrap of clusters; differences: paired, the wider of clustered t and Tango",
    }


def _dump(estimates: Mapping[str, Mapping[str, Estimate]]) -> dict[str, Any]:
    return {arm: {metric: estimate.model_dump() for metric, estimate in row.items()} for arm, row in estimates.items()}
