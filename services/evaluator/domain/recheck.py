"""Whether a report's verdicts follow from what stands in it: texts scored and every gate decided again."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from libs.contracts.estimates import Estimate, Verdict
from libs.contracts.inference import Message, Provenance
from libs.contracts.task import EvaluationSpec, MetricSpec, OutputSpec
from libs.contracts.task.evaluation import TASK_SUITE
from services.evaluator.domain.answers import Answer, Arm
from services.evaluator.domain.gates import Ruling, overall, rule
from services.evaluator.domain.metrics.core import Column, column
from services.evaluator.domain.metrics.registry import REMOTE, local_metrics, of_suite
from services.evaluator.domain.report import SCHEMA
from services.evaluator.domain.scores import Score, mix_of, passport, slices_of
from services.evaluator.domain.sheet import Sheet, Suite, refused, samples_of
from services.evaluator.domain.suite import Item

_SUMMED = ("json_fields", "bleu", "chrf")
"""Kinds whose value is made of sums over items, which are counted again from the texts."""


def recheck(document: Mapping[str, Any]) -> list[str] | None:
    """Where the verdicts differ from those its own items give; empty when they are equal, None for a report from before
    it held its rules.

    Texts are scored again by every metric that needs nothing else and that a gate looks at; what judges, embeddings,
    lm-eval and metrics of other packages said counts as published, and so does how judges stand with experts (see
    `admission.recheck`) and a gate that was decided outside of the sheets (whether what is served is what was trained).
    """
    if "evaluation" not in document:
        return None
    spec = EvaluationSpec.model_validate(document["evaluation"])
    sheets = {TASK_SUITE: _sheet(document, document, TASK_SUITE, spec)}
    sheets |= {name: _sheet(document, held, name, spec) for name, held in document["suites"].items()}
    published = {gate["gate"]: gate for gate in document["gates"]}
    found = _misscored(OutputSpec.model_validate(document["output"]), spec, sheets) if "output" in document else []
    for gate in spec.gates:
        if gate.name not in published:
            found.append(f"{gate.name}: a gate of the task that the report does not tell of")
            continue
        if gate.weighted and document["schema"] != SCHEMA:
            continue  # it was weighed by another method then
        found += _differences(published[gate.name], rule(gate, sheets, spec.suite.min_items))
    whole = overall([Verdict(gate["verdict"]) for gate in document["gates"]])
    if document["verdict"] != whole:
        found.append(f"verdict: published {document['verdict']!r}, its gates give {whole.value!r}")
    return found


def _misscored(output: OutputSpec, spec: EvaluationSpec, sheets: Mapping[str, Sheet]) -> list[str]:
    """Scores that do not follow from their texts."""
    local = tuple(metric for metric in spec.metrics if metric.kind not in (*REMOTE, "plugin"))
    found = []
    for name, sheet in sheets.items():
        metrics = {metric.name: metric for metric in of_suite(sheet.suite.kind, output, local, {})}
        for arm in sheet.arms:
            for metric, score in sheet.scores[arm.name].items():
                if metric not in metrics:
                    continue
                again = column(metrics[metric], samples_of(arm, sheet.suite.items), refused(arm, sheet.suite.items))
                pairs = zip(sheet.suite.items, score.column.scores, again.scores, strict=True)
                wrong = [item.item_id for item, told, right in pairs if told is not None and not _close(told, right)]
                if wrong:
                    where = f"{arm.name} on suite {name}"
                    found.append(f"{metric} of {where}: {len(wrong)} scores are not those of the texts: {wrong[0]} ...")
    return found


def _sheet(document: Mapping[str, Any], held: Mapping[str, Any], name: str, spec: EvaluationSpec) -> Sheet:
    """The sheet of a suite as the report tells it: what the items lack, no gate looks at."""
    rows = held["items"]
    kind, digest = held.get("kind", TASK_SUITE), held.get("digest", document["passport"]["suite_digest"])
    asked = (Message(role="user", content=""),)
    items = tuple(Item(row["item_id"], asked, row["answer"], row["category"], row["group"]) for row in rows)
    suite = Suite(name, kind, digest, items)
    arms = [_arm(document, arm, rows) for arm in held["order"]]
    summed = {metric.name: metric for metric in spec.metrics if metric.kind in _SUMMED}
    # Only what gates look at: counting the texts of all arms again takes a while.
    seen = {(arm, gate.metric) for gate in spec.gates if gate.suite == name for arm in (arms[0].name, gate.against)}
    scores = {
        arm.name: {
            metric: _score(held, suite, arm, metric, summed.get(metric))
            for metric in held["arms"][arm.name]
            if (arm.name, metric) in seen
        }
        for arm in arms
    }
    mix = mix_of(items, document["traffic"]["shares"]) if kind == TASK_SUITE else None
    return Sheet(suite, tuple(arms), scores, slices_of(items), mix)


def _arm(document: Mapping[str, Any], name: str, rows: Sequence[Mapping[str, Any]]) -> Arm:
    told = document["contenders"].get(name, {"version": 0, "digest": "", "engine": ""})
    answers = {
        row["item_id"]: Answer(
            row["item_id"], row["arms"][name]["text"], Provenance(base_digest=""), row["arms"][name]["error"]
        )
        for row in rows
    }
    return Arm(name, told["version"], told["digest"], answers)


def _score(held: Mapping[str, Any], suite: Suite, arm: Arm, metric: str, summed: MetricSpec | None) -> Score:
    rows = [row["arms"][arm.name] for row in held["items"]]
    failures = {place: row["unscored"][metric] for place, row in enumerate(rows) if metric in row.get("unscored", {})}
    scores = tuple(row[metric] for row in rows)
    unjudged = frozenset(place for place, score in enumerate(scores) if score is None and place not in failures)
    # Scores that were told not to be comparable must not become so here.
    apart = arm.name if metric in (held.get("incomparable") or {}).get(arm.name, {}) else ""
    signature = f"{metric}{apart}"
    judge = (held.get("judges") or {}).get(metric, {"doubt": None, "tilt": 0.0})
    made = Column(signature, scores, failures=failures, open=unjudged, doubt=judge["doubt"], tilt=judge["tilt"])
    if summed is not None:
        kind = local_metrics(OutputSpec(), (summed,))[-1]
        counted = column(kind, samples_of(arm, suite.items), refused(arm, suite.items))
        made = Column(signature, scores, counted.statistics, counted.corpus, failures, unjudged)
    groups, categories = zip(*((item.group, item.category) for item in suite.items), strict=True)
    return Score(made, passport(arm, signature, suite.digest, 0), groups, categories)


def _differences(published: Mapping[str, Any], ruling: Ruling) -> list[str]:
    result, name = ruling.result, published["gate"]
    found = []
    if published["verdict"] != result.verdict:
        found.append(f"{name}: verdict published {published['verdict']!r}, recomputed {result.verdict.value!r}")
    if not _same(published["estimate"], result.estimate):
        found.append(f"{name}: estimate published {published['estimate']}, recomputed {result.estimate}")
    if not _close(published["p_value"], ruling.p_value):
        found.append(f"{name}: p-value published {published['p_value']}, recomputed {ruling.p_value}")
    return found


def _same(told: Mapping[str, float] | None, found: Estimate | None) -> bool:
    if told is None or found is None:
        return told is None and found is None
    return all(_close(told[name], getattr(found, name)) for name in ("value", "low", "high", "n"))


def _close(left: float | None, right: float | None) -> bool:
    if left is None or right is None:
        return left is right
    # The same sums on another machine may round differently in the last digits.
    return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-12)
