"""Suites, scores and reports, without any process."""

import json
from pathlib import Path
from typing import Any

import pytest

from libs.contracts.errors import DataLoss, InvalidInput
from libs.contracts.estimates import Verdict
from libs.contracts.inference import Message, Provenance
from libs.contracts.task import EvaluationSpec, GateSpec, OutputSpec
from libs.contracts.taskfile import parse_task
from services.evaluator.domain.answers import Answer, Arm
from services.evaluator.domain.metrics.registry import local_metrics
from services.evaluator.domain.report import Report, Setting, Subject, build_report
from services.evaluator.domain.scoring import validity
from services.evaluator.domain.sheet import Suite, make_sheet
from services.evaluator.domain.suite import Item, parse_suite

SUBJECT = Subject("report-1", "default", "triage", "sha256:suite", "sha256:data")
ITEMS = tuple(Item(f"i{n}", (Message(role="user", content=f"q{n}"),), f"a{n}", "c", f"g{n}") for n in range(80))
GATE = GateSpec(name="better", kind="superiority", against="base")


def arm(name: str, version: int, right: int, template: str = "m") -> Arm:
    answers = {
        item.item_id: Answer(
            item.item_id,
            item.answer if place < right else "no",
            Provenance(base_digest="b", tokenizer_digest="t", template_digest=template),
        )
        for place, item in enumerate(ITEMS)
    }
    return Arm(name, version, f"d{version}", answers)


def build(candidate: Arm, base: Arm, *gates: GateSpec, output: OutputSpec | None = None) -> Report:
    made = output or OutputSpec()
    sheet = make_sheet(Suite("task", "task", "sha256:suite", ITEMS), [candidate, base], local_metrics(made), 256)
    return build_report(SUBJECT, {"task": sheet}, Setting(EvaluationSpec(gates=gates), 256))


def test_the_same_inputs_give_the_same_bytes() -> None:
    first = build(arm("fine_tuned", 1, 64), arm("base", 0, 5), GATE)
    assert first.document == build(arm("fine_tuned", 1, 64), arm("base", 0, 5), GATE).document
    assert first.verdict is Verdict.PASS


def test_arms_of_different_templates_are_not_subtracted() -> None:
    report = build(arm("fine_tuned", 1, 80), arm("base", 0, 0, "other"), GATE)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "template_digest" in report.gates[0].reason
    assert json.loads(report.document)["differences"] == {}


def test_a_gate_without_its_arm_or_metric_is_never_passed() -> None:
    against_stable = GateSpec(name="kept", kind="non_inferiority", against="stable", margin=0.1)
    valid = GateSpec(name="valid", kind="floor", metric="json_valid", at_least=0.5)
    report = build(arm("fine_tuned", 1, 80), arm("base", 0, 0), GATE, against_stable, valid)
    assert [gate.verdict for gate in report.gates] == [Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE]
    assert report.verdict is Verdict.INCONCLUSIVE
    assert build(arm("fine_tuned", 1, 80), arm("base", 0, 0)).verdict is Verdict.INCONCLUSIVE


def test_an_arm_that_lacks_an_answer_is_refused() -> None:
    short = arm("base", 0, 0)
    with pytest.raises(DataLoss, match="no answer to 1 items"):
        build(arm("fine_tuned", 1, 80), Arm("base", 0, "d0", {k: v for k, v in short.answers.items() if k != "i3"}))


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ('{"a": 1}', True),
        (' {"a": 1}\n', True),
        ('{"a": "x"}', False),
        ('{"a": 1, "a": 2}', False),
        ('{"a": NaN}', False),
        ("```json\n{}\n```", False),
        ("[" * 100_000, False),
        ("", False),
    ],
)
def test_validity_is_strict(text: str, valid: bool) -> None:
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "integer"}}}
    check = validity(OutputSpec.model_validate({"format": "json", "schema": schema}))
    assert check is not None
    assert check(text) is valid


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "objekt"}, "no JSON Schema"),
        ({"properties": {"a": {"$ref": "https://example.com/s.json"}}}, "points nowhere"),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, "points nowhere"),
    ],
)
def test_a_schema_that_cannot_be_checked_is_named_at_once(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        validity(OutputSpec.model_validate({"format": "json", "schema": schema}))


def test_free_text_has_no_validity() -> None:
    assert validity(OutputSpec()) is None
    anything = validity(OutputSpec(format="json"))
    assert anything is not None
    assert anything("3")
    assert not anything("three")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no items"),
        ('{"item_id": "a", "messages": [], "answer": "x"}', "line 1"),
        ("\nnot json", "line 2"),
        ('{"item_id": "a", "messages": [{"role": "user", "content": "q"}], "answer": "x"}\n' * 2, "there twice"),
    ],
)
def test_a_broken_suite_names_the_line(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_suite(text)


def test_an_item_without_a_group_stands_alone() -> None:
    line = '{"item_id": "%s", "messages": [{"role": "user", "content": "q"}], "answer": "x", "group": null}\n'
    assert [item.group for item in parse_suite(line % "a" + line % "b")] == ["item:a", "item:b"]


def test_the_page_on_evaluation_shows_a_task_file_that_is_valid() -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "evaluation.md").read_text(encoding="utf-8")
    shown = page.split("```yaml\n")[1].split("```")[0]
    evaluation = parse_task(f"task: shown\nbase: ./base\n{shown}").evaluation
    assert {arm.kind for arm in evaluation.arms} == {
        "base", "fine_tuned", "stable", "prompt", "retrieval", "external"
    }  # fmt: skip
    assert len(evaluation.gates) == 6
