"""Metrics that a package beside the evaluator brings."""

from pathlib import Path

import pytest

from libs.contracts.errors import InvalidInput
from libs.contracts.task import MetricSpec, OutputSpec
from services.evaluator.compute.plugins import installed
from services.evaluator.domain.metrics.core import Sample, column
from services.evaluator.domain.metrics.registry import local_metrics

CODE = """
class Vowels:
    signature = "vowels|v3"
    def __init__(self, options): self.most = options["most"]
    def __call__(self, text, reference, question):
        if text == "crash": raise RuntimeError("no")
        return sum(sign in "aeiou" for sign in text) / self.most
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vowel_metric.py").write_text(CODE)
    about = tmp_path / "vowel_metric-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: vowel-metric\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text("[pawl.metrics]\nvowels = vowel_metric:Vowels\n")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("package")
def test_a_metric_of_an_installed_package_scores_under_its_own_signature() -> None:
    spec = MetricSpec(name="vowels", kind="plugin", plugin="vowels", options={"most": 4})
    metric = local_metrics(OutputSpec(), (spec,), installed())[-1]
    assert metric.measure(Sample("banana", "")).score == 0.75
    assert metric.signature == "plugin:vowels|vowel_metric:Vowels|1.2|vowels|v3"
    with pytest.raises(InvalidInput, match=r"scored 1\.25, which is not in"):
        metric.measure(Sample("aeiou", ""))
    with pytest.raises(InvalidInput, match="'vowels' failed: RuntimeError"):
        metric.measure(Sample("crash", ""))


@pytest.mark.usefixtures("package")
def test_an_answer_that_it_fails_on_costs_no_other_answer_its_score() -> None:
    spec = MetricSpec(name="vowels", kind="plugin", plugin="vowels", options={"most": 4})
    metric = local_metrics(OutputSpec(), (spec,), installed())[-1]
    made = column(metric, [Sample("banana", ""), Sample("crash", ""), Sample("", "")], refused={2})
    assert made.scores == (0.75, None, 0.0)
    assert made.failures == {1: "metric 'vowels' failed: RuntimeError('no')"}


@pytest.mark.usefixtures("package")
def test_a_metric_that_cannot_be_made_is_named() -> None:
    spec = MetricSpec(name="mine", kind="plugin", plugin="vowels")
    with pytest.raises(InvalidInput, match="cannot be made: KeyError") as caught:
        local_metrics(OutputSpec(), (spec,), installed())
    assert caught.value.field == "evaluation.metrics.mine"
