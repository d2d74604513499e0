"""Gates, passports, noise, advice and the page, without any process."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from libs.contracts.estimates import Verdict
from libs.contracts.inference import Message, Provenance
from libs.contracts.task import EvaluationSpec, OutputSpec
from services.evaluator.domain.answers import Answer, Arm, answer_key
from services.evaluator.domain.gates import BASELINE_GATE
from services.evaluator.domain.metrics.core import Column
from services.evaluator.domain.metrics.registry import local_metrics
from services.evaluator.domain.page import page
from services.evaluator.domain.plan import planned
from services.evaluator.domain.recheck import recheck
from services.evaluator.domain.report import Report, Setting, Subject, build_report
from services.evaluator.domain.scores import Incomparable, mix_of
from services.evaluator.domain.sheet import Sheet, Suite, make_sheet
from services.evaluator.domain.suite import Item

SUBJECT = Subject("report-1", "default", "triage", "sha256:suite", "sha256:data")
OURS = Provenance(base_digest="b", tokenizer_digest="t", template_digest="m")
Rule = Callable[[int], bool]


def items(n: int) -> tuple[Item, ...]:
    return tuple(
        Item(f"i{k}", (Message(role="user", content=f"q{k}"),), f"a{k}", f"c{k % 4}", f"g{k}") for k in range(n)
    )


def arm(name: str, right: Rule, n: int, version: int = 0, **changes: Any) -> Arm:
    answers = {
        f"i{k}": Answer(
            f"i{k}", f"a{k}" if right(k) else "no <b>", changes.get("made_by", OURS), None,
            changes.get("tokens", 10), 5, 0.1, changes.get("made_in", "report-1"),
        )
        for k in range(n)
    }  # fmt: skip
    return Arm(name, version, f"d{version}", answers, engine=changes.get("engine", ""))


def sheet(n: int, *arms: Arm, **options: Any) -> Sheet:
    metrics = local_metrics(OutputSpec(), options.pop("metrics", ()))
    return make_sheet(Suite("task", "task", "sha256:suite", items(n)), arms, metrics, 256, **options)


def build(made: Sheet, spec: dict[str, Any], **setting: Any) -> tuple[Report, dict[str, Any]]:
    section = EvaluationSpec.model_validate({"repeat_items": 0, **spec})
    report = build_report(SUBJECT, {"task": made}, Setting(section, 256, traffic=section.traffic, **setting))
    return report, json.loads(report.document)


def test_fifty_items_are_never_enough_and_the_report_says_how_many_more_are() -> None:
    made = sheet(50, arm("fine_tuned", lambda _: True, 50, 1), arm("base", lambda _: False, 50))
    gates = [
        {"name": "better", "kind": "superiority", "against": "base"},
        {"name": "good", "kind": "floor", "at_least": 0.1},
    ]
    report, document = build(made, {"gates": gates})
    assert report.verdict is Verdict.INCONCLUSIVE
    for gate in document["gates"]:
        assert gate["verdict"] == "inconclusive"
        assert "about 10 more needed" in gate["reason"]
        assert gate["more_needed"] == 10


def test_a_task_may_ask_for_more_items_than_the_least() -> None:
    made = sheet(80, arm("fine_tuned", lambda _: True, 80, 1), arm("base", lambda _: False, 80))
    spec = {"suite": {"min_items": 200}, "gates": [{"name": "better", "kind": "superiority", "against": "base"}]}
    assert "about 120 more needed" in build(made, spec)[1]["gates"][0]["reason"]
    with pytest.raises(ValueError, match="greater than or equal to 60"):
        EvaluationSpec.model_validate({"suite": {"min_items": 20}})


def test_not_significant_is_no_evidence_of_no_loss() -> None:
    tuned = arm("fine_tuned", lambda k: k % 10 != 0, 100, 1)
    made = sheet(100, tuned, arm("base", lambda k: k % 11 != 0, 100))
    report, document = build(
        made, {"gates": [{"name": "kept", "kind": "non_inferiority", "against": "base", "margin": 0.02}]}
    )
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "more needed" in document["gates"][0]["reason"]


def test_a_gate_on_one_slice_sees_that_slice_alone() -> None:
    tuned = arm("fine_tuned", lambda k: k % 4 != 1, 400, 1)
    made = sheet(400, tuned, arm("base", lambda k: k % 4 == 1, 400))
    gates = [
        {"name": "whole", "kind": "superiority", "against": "base"},
        {"name": "one", "kind": "superiority", "against": "base", "slice": "c1"},
        {"name": "none", "kind": "floor", "at_least": 0.5, "slice": "c9"},
    ]
    report, document = build(made, {"gates": gates})
    assert [gate.verdict for gate in report.gates] == [Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE]
    assert report.gates[1].slice == "c1"
    assert "there are: c0, c1, c2, c3" in document["gates"][2]["reason"]


def test_scores_of_other_templates_signatures_or_suites_refuse_to_be_subtracted() -> None:
    other = OURS.model_copy(update={"template_digest": "other"})
    made = sheet(80, arm("fine_tuned", lambda _: True, 80, 1), arm("base", lambda _: False, 80, made_by=other))
    mine, theirs = made.score("fine_tuned", "exact_match"), made.score("base", "exact_match")
    assert mine is not None
    assert theirs is not None
    with pytest.raises(Incomparable, match="2 different values of template_digest"):
        mine.minus(theirs)
    document = build(made, {"gates": [{"name": "better", "kind": "superiority", "against": "base"}]})[1]
    assert document["differences"] == {}
    assert "template_digest" in document["incomparable"]["base"]["exact_match"]
    bleu = sheet(80, arm("fine_tuned", lambda _: True, 80, 1), metrics=())
    changed = bleu.score("fine_tuned", "exact_match")
    assert changed is not None
    strange = Column("exact_match|other|v2", changed.column.scores)
    moved = make_sheet(
        Suite("task", "task", "sha256:elsewhere", items(80)), [arm("fine_tuned", lambda _: True, 80, 1)], (), 256,
        columns={"fine_tuned": {"exact_match": strange}},
    ).score("fine_tuned", "exact_match")  # fmt: skip
    assert moved is not None
    with pytest.raises(Incomparable, match="metric signature"):
        changed.minus(moved)


def test_a_version_whose_every_weight_was_trained_is_compared_with_the_base_it_came_from() -> None:
    own = OURS.model_copy(update={"base_digest": "d1"})
    base = arm("base", lambda _: False, 80)
    gate = {"name": "better", "kind": "superiority", "against": "base"}
    made = sheet(80, arm("fine_tuned", lambda _: True, 80, 1, made_by=own), base)
    report, document = build(made, {"gates": [gate]})
    assert report.verdict is Verdict.PASS
    assert document["differences"]["base"]["exact_match"]["value"] == pytest.approx(1.0)


def test_an_arm_whose_answers_come_from_two_bases_is_compared_with_nothing() -> None:
    changing = arm("fine_tuned", lambda _: True, 80, 1)
    moved = {"i0": replace(changing.answers["i0"], provenance=OURS.model_copy(update={"base_digest": "other"}))}
    mixed = replace(changing, answers={**changing.answers, **moved})
    document = build(sheet(80, mixed, arm("base", lambda _: False, 80)), {"gates": []})[1]
    assert "2 different values of base_digest" in document["incomparable"]["base"]["exact_match"]


def test_a_model_outside_is_compared_as_a_whole_system() -> None:
    outside = arm("gpt", lambda k: k % 2 == 0, 100, made_by=Provenance(base_digest=""), engine="outside:host/model")
    document = build(
        sheet(100, arm("fine_tuned", lambda _: True, 100, 1), outside), {"gates": [], "primary": "exact_match"}
    )[1]
    assert document["differences"]["gpt"]["exact_match"]["value"] == pytest.approx(0.5)
    assert document["contenders"]["gpt"]["engine"] == "outside:host/model"


def test_without_an_untrained_arm_only_a_named_override_goes_on() -> None:
    made = sheet(100, arm("fine_tuned", lambda _: True, 100, 1), arm("stable", lambda _: False, 100))
    spec = {"arms": ["fine_tuned", "stable"], "gates": [{"name": "better", "kind": "superiority", "against": "stable"}]}
    report, document = build(made, spec)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert [gate["gate"] for gate in document["gates"]] == ["better", BASELINE_GATE]
    assert "waive this gate by name" in document["gates"][1]["reason"]


def test_a_simpler_arm_that_is_as_good_is_recommended_before_the_best() -> None:
    kinds = {"fine_tuned": "fine_tuned", "base": "base", "prompt": "prompt/base"}
    tuned, base = arm("fine_tuned", lambda k: k != 3, 800, 1), arm("base", lambda k: k % 2 == 0, 800)
    prompt = arm("prompt", lambda k: k not in (3, 5), 800, tokens=90)
    arms = ["fine_tuned", "base", {"name": "prompt", "kind": "prompt", "shots": 3}]
    told = build(sheet(800, tuned, base, prompt), {"gates": [], "arms": arms}, kinds=kinds)[1]["recommendation"]
    assert (told["arm"], told["sure"]) == ("prompt", True)
    assert any("as good within 0.02" in line for line in told["why"])
    told = build(sheet(800, tuned, base), {"gates": []}, kinds=kinds)[1]["recommendation"]
    assert (told["arm"], told["sure"]) == ("fine_tuned", True)
    assert any("better than the simpler base" in line for line in told["why"])
    # On few items the simplest arm may be the best by luck: it is named, and not called shown.
    told = build(sheet(80, arm("fine_tuned", lambda k: k % 2 == 0, 80, 1), arm("base", lambda k: k % 2 == 1, 80)),
                 {"gates": []}, kinds=kinds)[1]["recommendation"]  # fmt: skip
    assert (told["arm"], told["sure"]) == ("base", False)


def test_an_advantage_that_is_not_shown_is_called_so() -> None:
    tuned, base = arm("fine_tuned", lambda k: k % 20 != 0, 80, 1), arm("base", lambda k: k % 10 != 1, 80)
    told = build(sheet(80, tuned, base), {"gates": [], "close_enough": 0.001})[1]["recommendation"]
    assert (told["arm"], told["sure"]) == ("fine_tuned", False)
    assert any("not shown to be better" in line for line in told["why"])


def test_tokens_seconds_and_money_stand_beside_the_quality() -> None:
    made = sheet(
        100, arm("fine_tuned", lambda _: True, 100, 1), arm("base", lambda _: False, 100, made_in="report-0", tokens=40)
    )
    prices = EvaluationSpec.model_validate({"prices": {"base": {"input": 2.0, "output": 10.0}}}).prices
    costs = build(made, {"gates": []}, prices=prices)[1]["costs"]
    assert costs["base"]["per_thousand"] == pytest.approx(1000 * (40 * 2.0 + 5 * 10.0) / 1e6)
    assert (costs["base"]["reused"], costs["fine_tuned"]["reused"]) == (100, 0)
    assert costs["fine_tuned"]["per_thousand"] is None


def test_a_judge_that_fails_on_many_items_judges_nothing() -> None:
    column = Column("judge|m|v1", tuple(None if k < 20 else 1.0 for k in range(100)), failures={0: "no JSON"})
    lower = Column("judge|m|v1", tuple(0.25 for _ in range(100)))
    spec = {
        "metrics": [{"name": "judge", "kind": "judge", "rubric": "r", "endpoint": {"url": "http://h", "model": "m"}}],
        "gates": [{"name": "judged", "kind": "superiority", "against": "base", "metric": "judge"}],
    }
    arms = arm("fine_tuned", lambda _: True, 100, 1), arm("base", lambda _: False, 100)
    made = sheet(100, *arms, columns={"fine_tuned": {"judge": column}, "base": {"judge": lower}})
    report, document = build(made, spec)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "failed on 20 of 100 items, first: no JSON" in document["gates"][0]["reason"]
    assert document["items"][0]["arms"]["fine_tuned"]["judge"] is None
    assert document["arms"]["fine_tuned"]["judge"]["n"] == 80


def judged_by(bias: float, gate: dict[str, Any], value: float = 0.75) -> tuple[Verdict, str]:
    """A gate on a pairwise judge that prefers the candidate in `value` of 200 items and may favour it by `bias`."""
    prefers = Column("judge_pairwise|m", tuple(float(k < 200 * value) for k in range(200)), tilt=bias)
    even = Column("judge_pairwise|m", tuple(0.5 for _ in range(200)), tilt=bias)
    endpoint = {"url": "http://h", "model": "m"}
    metric = {"name": "liked", "kind": "judge_pairwise", "rubric": "r", "against": "base", "endpoint": endpoint}
    arms = arm("fine_tuned", lambda _: True, 200, 1), arm("base", lambda _: False, 200)
    made = sheet(200, *arms, columns={"fine_tuned": {"liked": prefers}, "base": {"liked": even}})
    report, document = build(made, {"metrics": [metric], "gates": [{"name": "g", "metric": "liked", **gate}]})
    return report.verdict, document["gates"][0]["reason"]


@pytest.mark.parametrize(
    "gate", [{"kind": "superiority", "against": "base"}, {"kind": "floor", "at_least": 0.5}]
)  # fmt: skip
def test_a_judges_word_counts_only_beyond_what_it_may_favour_an_arm(gate: dict[str, Any]) -> None:
    assert judged_by(0.0, gate)[0] is Verdict.PASS
    assert judged_by(0.127, gate)[0] is Verdict.PASS
    verdict, reason = judged_by(0.25, gate)
    assert verdict is Verdict.INCONCLUSIVE
    assert "moved by 0.250" in reason
    # A judge that may favour either arm by a third settles nothing here, in either direction.
    verdict, reason = judged_by(0.35, gate, value=0.55)
    assert verdict is Verdict.INCONCLUSIVE
    assert "bias may be all of it" in reason
    assert judged_by(0.35, gate, value=0.02)[0] is Verdict.FAIL


def test_a_corpus_metric_is_gated_on_its_bootstrap() -> None:
    spec = {
        "metrics": ["chrf"],
        "gates": [
            {"name": "closer", "kind": "superiority", "against": "base", "metric": "chrf"},
            {"name": "close", "kind": "floor", "at_least": 0.5, "metric": "chrf"},
        ],
    }
    section = EvaluationSpec.model_validate(spec)
    arms = arm("fine_tuned", lambda k: k % 5 != 0, 120, 1), arm("base", lambda k: k % 5 == 0, 120)
    report, document = build(sheet(120, *arms, metrics=section.metrics), spec)
    assert report.verdict is Verdict.PASS
    assert "draws" in document["gates"][0]["reason"]
    assert document["arms"]["fine_tuned"]["chrf"]["low"] > document["arms"]["base"]["chrf"]["high"]


def judged_and_gated() -> dict[str, Any]:
    """A report with every sort of gate: mean and corpus metrics, a slice, traffic, a judge, an arm not comparable."""
    endpoint = {"url": "http://h", "model": "m"}
    judge = {"name": "liked", "kind": "judge_pairwise", "rubric": "r", "against": "base", "endpoint": endpoint}
    spec = {
        "metrics": ["chrf", judge],
        "arms": ["fine_tuned", "base", "stable"],
        "traffic": {"c0": 0.7, "c1": 0.3},
        "gates": [
            {"name": "better", "kind": "superiority", "against": "base"},
            {"name": "close", "kind": "floor", "at_least": 0.5, "metric": "chrf"},
            {"name": "closer", "kind": "non_inferiority", "against": "base", "metric": "chrf", "margin": 0.1},
            {"name": "one", "kind": "superiority", "against": "base", "slice": "c1"},
            {"name": "mix", "kind": "superiority", "against": "base", "weighted": True},
            {"name": "liked", "kind": "superiority", "against": "base", "metric": "liked"},
            {"name": "kept", "kind": "non_inferiority", "against": "stable", "margin": 0.05},
        ],
    }
    other = OURS.model_copy(update={"template_digest": "other"})
    arms = (
        arm("fine_tuned", lambda k: k % 7 != 0, 300, 1), arm("base", lambda k: k % 3 == 0, 300),
        arm("stable", lambda k: k % 3 == 1, 300, 2, made_by=other),
    )  # fmt: skip
    prefers = Column(
        "judge|m", tuple(None if k == 5 else float(k % 4 != 0) for k in range(300)), failures={5: "no"}, tilt=0.1
    )
    columns = {"fine_tuned": {"liked": prefers}, "base": {"liked": Column("judge|m", (0.5,) * 300)}}
    section = EvaluationSpec.model_validate(spec)
    mix = mix_of(items(300), section.traffic)
    return build(sheet(300, *arms, metrics=section.metrics[:1], columns=columns, mix=mix), spec)[1]


def test_every_verdict_of_a_report_follows_from_its_items_again() -> None:
    document = judged_and_gated()
    assert len({gate["verdict"] for gate in document["gates"]}) > 1
    assert recheck(document) == []
    forged = copy.deepcopy(document)
    for row in forged["items"][:60]:
        row["arms"]["fine_tuned"]["exact_match"] = 1.0
    assert any(line.startswith("better: estimate published") for line in recheck(forged) or ())
    assert any(line.startswith("exact_match of fine_tuned on suite task: 9 scores") for line in recheck(forged) or ())
    forged = copy.deepcopy(document)
    for row in forged["items"][:60]:
        row["arms"]["base"]["text"] = row["answer"]
    assert {line.split(":")[0] for line in recheck(forged) or ()} == {
        "closer", "exact_match of base on suite task", "chrf of base on suite task"
    }  # fmt: skip
    forged = copy.deepcopy(document)
    forged["gates"][-1]["verdict"] = "pass"
    assert recheck(forged) == [
        "kept: verdict published 'pass', recomputed 'inconclusive'",
        "verdict: published 'inconclusive', its gates give 'pass'",
    ]
    assert recheck({name: value for name, value in document.items() if name != "evaluation"}) is None


def test_power_is_told_before_the_run_for_every_gate() -> None:
    spec = EvaluationSpec.model_validate(
        {
            "gates": [
                {"name": "better", "kind": "superiority", "against": "base"},
                {"name": "kept", "kind": "non_inferiority", "against": "base", "margin": 0.05},
                {"name": "good", "kind": "floor", "at_least": 0.5},
            ]
        }
    )
    told = planned(spec, {"task": 400})
    assert {line.split(":")[0] for line in told} == {"better", "kept", "good"}
    assert any("shown with probability 80 %" in line for line in told)
    assert all("too few" in line for line in planned(spec, {"task": 50}))


def test_the_page_escapes_what_models_said_and_needs_nothing_beside_it() -> None:
    made = sheet(100, arm("fine_tuned", lambda k: k % 7 != 0, 100, 1), arm("base", lambda k: k % 7 == 0, 100))
    html = page(build(made, {"gates": [{"name": "better", "kind": "superiority", "against": "base"}]})[1])
    assert "no <b>" not in html
    assert "no &lt;b&gt;" in html
    for outside in ("<script", "<link", "src=", "url(", "@import", "http://", "https://"):
        assert outside not in html
    assert html.count("<svg") >= 4
    assert html.count("less this arm") == 1
    assert ", p " in html


def test_a_key_changes_with_everything_an_answer_depends_on() -> None:
    asked = (Message(role="user", content="q"),)
    told = (Message(role="system", content="s"), *asked)
    keys = {
        answer_key("d1", "s", asked, 16),
        answer_key("d2", "s", asked, 16),
        answer_key("d1", "other", asked, 16),
        answer_key("d1", "s", asked, 17),
        answer_key("d1", "s", asked, 16, "again"),
        answer_key("d1", "s", told, 16),
    }
    assert len(keys) == 6
    # The gateway adds the task's system prompt only where the messages bring none.
    assert answer_key("d1", "s", told, 16) == answer_key("d1", "other", told, 16)
