"""Gates that judge as the mix of traffic would."""

from dataclasses import replace

import pytest

from libs.contracts.estimates import Verdict
from libs.contracts.task import OutputSpec
from services.evaluator.domain.metrics.registry import local_metrics
from services.evaluator.domain.scores import mix_of
from services.evaluator.domain.sheet import Suite, make_sheet
from services.evaluator.tests.test_report import arm, build, items, sheet


def test_a_weighted_gate_judges_by_the_mix_of_traffic() -> None:
    tuned = arm("fine_tuned", lambda k: k % 4 != 1, 400, 1)
    traffic = {"c1": 0.9, "c0": 0.1}
    mix = mix_of(items(400), traffic)
    made = sheet(400, tuned, arm("base", lambda k: k % 4 == 1, 400), mix=mix)
    gate = {"name": "as-traffic-is", "kind": "superiority", "against": "base", "weighted": True}
    report, document = build(made, {"gates": [gate], "traffic": traffic})
    assert report.verdict is Verdict.FAIL
    assert document["weighted"]["fine_tuned"]["exact_match"]["value"] == pytest.approx(0.1)
    blind = sheet(400, tuned, arm("base", lambda k: k % 4 == 1, 400))
    assert "no traffic mix" in build(blind, {"gates": [gate]})[1]["gates"][0]["reason"]


def test_few_items_with_much_of_the_traffic_count_as_few() -> None:
    # Forty of four hundred items stand for all but a tenth of the traffic.
    tuned = arm("fine_tuned", lambda _: True, 400, 1)
    some = tuple(replace(each, category="rare" if k < 40 else "common") for k, each in enumerate(items(400)))
    traffic = {"rare": 0.9, "common": 0.1}
    made = make_sheet(
        Suite("task", "task", "sha256:suite", some), (tuned, arm("base", lambda k: k % 2 == 0, 400)),
        local_metrics(OutputSpec()), 256, mix=mix_of(some, traffic),
    )  # fmt: skip
    gate = {"name": "as-traffic-is", "kind": "superiority", "against": "base", "weighted": True}
    report, document = build(made, {"gates": [gate, {**gate, "name": "plain", "weighted": False}], "traffic": traffic})
    assert [each.verdict for each in report.gates] == [Verdict.INCONCLUSIVE, Verdict.PASS]
    assert "fewer than 60 items" in document["gates"][0]["reason"]
    assert document["gates"][0]["estimate"]["n"] < 60


def test_a_suite_that_lacks_much_of_the_traffic_decides_no_weighted_gate() -> None:
    arms = arm("fine_tuned", lambda _: True, 400, 1), arm("base", lambda _: False, 400)
    gate = {"name": "as-traffic-is", "kind": "superiority", "against": "base", "weighted": True}
    for missing, verdict in ((0.15, Verdict.PASS), (0.4, Verdict.INCONCLUSIVE)):
        share = (1.0 - missing) / 4
        traffic = {**{f"c{k}": share for k in range(4)}, "fraud": missing}
        report, document = build(
            sheet(400, *arms, mix=mix_of(items(400), traffic)), {"gates": [gate], "traffic": traffic}
        )
        assert report.verdict is verdict
        assert document["traffic"]["uncovered_share"] == pytest.approx(missing)
    assert "no items for 40% of the traffic (fraud)" in document["gates"][0]["reason"]
