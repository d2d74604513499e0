"""What a person sees of a report on the command line."""

import io
from typing import Any

import pytest
from rich.console import Console

from pawl.cli import evaluation


def report() -> dict[str, Any]:
    value = {"value": 0.9, "low": 0.8, "high": 0.95, "n": 200}
    gap = {"value": 0.03, "low": 0.01, "high": 0.05, "n": 200, "wins": 9, "losses": 3}
    return {
        "version": 7, "verdict": "inconclusive", "report_id": "report-1", "order": ["fine_tuned", "base", "gpt", "old"],
        "arms": {"fine_tuned": {"exact_match": value}}, "gates": [],
        "differences": {"base": {"exact_match": {**gap, "below_noise": False}},
                        "gpt": {"exact_match": {**gap, "below_noise": True}}},
        "incomparable": {"old": {"exact_match": "answers come from 2 different values of template_digest"}},
    }  # fmt: skip


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    page = io.StringIO()
    monkeypatch.setattr(evaluation, "out", Console(file=page, width=160, force_terminal=True, color_system="standard"))
    return page


def line_of(page: io.StringIO, arm: str) -> str:
    return next(line for line in page.getvalue().splitlines() if arm in line)


def test_a_difference_below_the_noise_is_greyed_out_and_says_so(seen: io.StringIO) -> None:
    evaluation._show("triage", report())
    dim = "\x1b[2m"
    assert "9 won, 3 lost" in line_of(seen, "base")
    assert dim not in line_of(seen, "base")
    assert "below the noise floor" in line_of(seen, "gpt")
    assert line_of(seen, "gpt").startswith(dim)


def test_scores_that_are_not_comparable_are_not_subtracted_and_say_why(seen: io.StringIO) -> None:
    evaluation._show("triage", report())
    assert "not subtracted" in line_of(seen, "old ")
    assert "template_digest" in line_of(seen, "old ")
