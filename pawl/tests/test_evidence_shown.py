"""Whether a decision rests on a conclusion that was published and holds."""

import json
from typing import Any

import pytest

from libs.contracts.stubs.pawl.evaluator.v1 import live_pb2
from libs.contracts.stubs.pawl.registry.v1 import registry_pb2
from pawl.cli.evidence import _decision

REPORT = {"report_id": "report-1", "report_digest": "sha256:a"}
DROP = {"number": 1, "version": 3, "floor": 0.9, "satisfaction": 0.7, "e_value": 1200.0, "first_window": 9,
        "last_window": 40}  # fmt: skip
SHADOW = {"stage": "shadow", "version": 4, "generation": 8, "verdict": "pass", "e_value": 31.0, "pairs": 90, "wins": 40,
          "losses": 2, "windows": {}, "bad_windows": {}}  # fmt: skip


def check(kind: str, document: dict[str, Any], verdict: str, finding: str = "equal") -> live_pb2.Check:
    return live_pb2.Check(kind=kind, verdict=verdict, finding=finding, document_json=json.dumps(document))


def decision(action: str, evidence: dict[str, Any]) -> Any:
    return registry_pb2.Decision(sequence=5, action=action, evidence_json=json.dumps(evidence))


CASES = [
    ("report", "refused", REPORT, "fail", {**REPORT, "verdict": "fail"}, {"verdict": "pass"}),
    ("report", "shadow", REPORT, "pass", {**REPORT, "verdict": "pass"}, {"report_digest": "sha256:b"}),
    ("drop", "drop", DROP, "drop", DROP, {"e_value": 12000.0}),
    ("assessment", "canary", SHADOW, "pass", SHADOW, {"losses": 1}),
]


@pytest.mark.parametrize(("kind", "action", "document", "verdict", "cited", "forged"), CASES)
def test_a_decision_rests_on_what_was_published_word_for_word(
    kind: str, action: str, document: dict[str, Any], verdict: str, cited: dict[str, Any], forged: dict[str, Any]
) -> None:
    published = [check(kind, document, verdict)]
    (line,) = _decision(decision(action, cited), published)
    assert line["holds"]
    (line,) = _decision(decision(action, {**cited, **forged}), published)
    assert not line["holds"]


@pytest.mark.parametrize(("kind", "action", "document", "verdict", "cited", "forged"), CASES)
def test_a_decision_does_not_hold_where_its_conclusion_does_not(
    kind: str, action: str, document: dict[str, Any], verdict: str, cited: dict[str, Any], forged: dict[str, Any]
) -> None:
    (line,) = _decision(decision(action, cited), [check(kind, document, verdict, "different")])
    assert not line["holds"]


def test_a_decision_on_a_report_that_was_not_looked_at_and_one_on_nothing_say_nothing() -> None:
    assert _decision(decision("refused", {**REPORT, "verdict": "fail"}), []) == []
    assert _decision(decision("paused", {}), []) == []
