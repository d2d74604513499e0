"""Metrics that a package beside the evaluator brings."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libs.contracts.errors import InvalidInput
from libs.contracts.task import MetricSpec, OutputSpec
from services.evaluator.compute.plugins import MOST_LOST, Plugins
from services.evaluator.domain.metrics.core import Metric, Sample, column
from services.evaluator.domain.metrics.registry import local_metrics

CODE = """
import os, time
class Vowels:
    signature = "vowels|v3"
    def __init__(self, options):
        self.most = options["most"]
        print("made")
    def __call__(self, text, reference, question):
        print("I score", text)
        if text == "crash": raise RuntimeError("no")
        if text == "hang": time.sleep(3600)
        if text == "die": os._exit(7)
        if text == "keys": return float(any(name.startswith("PAWL_") for name in os.environ))
        return sum(sign in "aeiou" for sign in text) / self.most
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plugins]:
    (tmp_path / "vowel_metric.py").write_text(CODE)
    about = tmp_path / "vowel_metric-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: vowel-metric\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text("[pawl.metrics]\nvowels = vowel_metric:Vowels\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PAWL_EVALUATOR_API_KEY", "secret")
    with Plugins() as found:
        yield found


def made(plugins: Plugins, **changes: Any) -> Metric:
    spec = MetricSpec(name="vowels", kind="plugin", plugin="vowels", options={"most": 4}, **changes)
    return local_metrics(OutputSpec(), (spec,), plugins)[-1]


def test_a_metric_of_an_installed_package_scores_under_its_own_signature(plugins: Plugins) -> None:
    metric = made(plugins)
    assert metric.measure(Sample("banana", "")).score == 0.75
    assert metric.measure(Sample("keys", "")).score == 0.0
    assert metric.signature == "plugin:vowels|vowel_metric:Vowels|1.2|vowels|v3"
    with pytest.raises(InvalidInput, match=r"scored 1\.25, which is not in"):
        metric.measure(Sample("aeiou", ""))
    with pytest.raises(InvalidInput, match="'vowels' failed: RuntimeError"):
        metric.measure(Sample("crash", ""))


def test_an_answer_that_it_fails_hangs_or_dies_on_costs_no_other_answer_its_score(plugins: Plugins) -> None:
    answers = ("banana", "crash", "hang", "die", "banana", "")
    found = column(made(plugins, seconds=1.0), [Sample(text, "") for text in answers], refused={5})
    assert found.scores == (0.75, None, None, None, 0.75, 0.0)
    assert found.failures == {
        1: "metric 'vowels' failed: RuntimeError('no')",
        2: "metric 'vowels' took more than 1 s",
        3: "metric 'vowels' ended with 7",
    }


def test_a_metric_that_hangs_on_everything_is_given_up_and_the_run_goes_on(plugins: Plugins) -> None:
    began = time.monotonic()
    found = column(made(plugins, seconds=0.2), [Sample("hang", "")] * 300)
    assert set(found.scores) == {None}
    assert "was given up" in (found.failures or {})[MOST_LOST]
    assert time.monotonic() - began < 30.0


def test_a_metric_that_cannot_be_made_is_named(plugins: Plugins) -> None:
    spec = MetricSpec(name="mine", kind="plugin", plugin="vowels")
    with pytest.raises(InvalidInput, match="cannot be made: KeyError") as caught:
        local_metrics(OutputSpec(), (spec,), plugins)
    assert caught.value.field == "evaluation.metrics.mine"
    with pytest.raises(ValueError, match="takes no 'seconds'"):
        MetricSpec(name="bleu", kind="bleu", seconds=1.0)
