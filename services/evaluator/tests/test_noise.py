"""What two runs of the same arms give by themselves is no difference."""

import random

import pytest

from libs.contracts.inference import Provenance
from libs.contracts.task import OutputSpec
from services.evaluator.domain.answers import Answer
from services.evaluator.domain.metrics.core import Column
from services.evaluator.domain.metrics.registry import local_metrics
from services.evaluator.domain.noise import measure_noise
from services.evaluator.domain.page import page
from services.evaluator.tests.test_report import OURS, arm, build, sheet


def test_a_difference_within_the_noise_of_two_runs_is_greyed_out() -> None:
    tuned, base = arm("fine_tuned", lambda k: k % 50 != 0, 200, 1), arm("base", lambda k: k % 40 != 0, 200)
    again = {f"i{k}": Answer(f"i{k}", f"a{k}" if k % 4 else "changed", OURS) for k in range(40)}
    noise = measure_noise(sheet(200, tuned, base), {"fine_tuned": again}, local_metrics(OutputSpec()), {})
    assert noise is not None
    mine = noise.arms["fine_tuned"]
    assert (mine.items, mine.changed_texts) == (40, 10)
    assert mine.floors["exact_match"] == pytest.approx(1.959964 * (9 / 40 / 200) ** 0.5)
    document = build(sheet(200, tuned, base), {"gates": []}, noise=noise)[1]
    assert document["differences"]["base"]["exact_match"]["below_noise"] is True
    assert 'class="noise"' in page(document)
    # A quarter of the items are twice as noisy: on one category a larger difference is chance, too.
    assert noise.below("exact_match", 0.1, 50, "base")
    assert not noise.below("exact_match", 0.1, 200, "base")
    assert document["slice_differences"]["base"]["c0"]["below_noise"] is True


def test_what_a_judge_says_the_second_time_is_noise_too() -> None:
    tuned, base = arm("fine_tuned", lambda _: True, 100, 1), arm("base", lambda _: True, 100)
    graded = Column("judge|m|v1", (1.0,) * 100)
    made = sheet(100, tuned, base, columns={"fine_tuned": {"graded": graded}, "base": {"graded": graded}})
    again = {f"i{k}": Answer(f"i{k}", f"a{k}", OURS) for k in range(10, 30)}
    second = Column("judge|m|v1", (*(0.75,) * 5, None, *(1.0,) * 14))
    noise = measure_noise(made, {"fine_tuned": again}, local_metrics(OutputSpec()), {"fine_tuned": {"graded": second}})
    assert noise is not None
    mine = noise.arms["fine_tuned"]
    assert mine.changed_texts == 0
    assert (mine.changed_scores["graded"], mine.changed_scores["exact_match"]) == (5, 0)
    assert mine.floors["graded"] == pytest.approx(1.959964 * (5 * 0.0625 / 19 / 100) ** 0.5)
    assert noise.below("graded", 0.02, 100, "base")
    assert not noise.below("exact_match", 0.02, 100, "base")


def test_a_steady_candidate_is_not_better_than_an_arm_that_gives_another_answer_each_time() -> None:
    tuned = arm("fine_tuned", lambda k: k % 50 != 0, 200, 1)
    gpt = arm("gpt", lambda k: k % 20 != 0, 200, engine="outside:h/m", made_by=Provenance(base_digest=""))
    base = arm("base", lambda k: k % 20 != 0, 200)
    same = {f"i{k}": tuned.answers[f"i{k}"] for k in range(40)}
    other = {f"i{k}": Answer(f"i{k}", f"a{k}" if k % 3 else "changed", OURS) for k in range(40)}
    steady = {f"i{k}": base.answers[f"i{k}"] for k in range(40)}
    made = sheet(200, tuned, gpt, base)
    again = {"fine_tuned": same, "gpt": other, "base": steady}
    noise = measure_noise(made, again, local_metrics(OutputSpec()), {})
    assert noise is not None
    assert noise.floor("exact_match", 200, "base") == 0.0
    # Fourteen of the forty changed: half of that noise is the other arm's part of a difference.
    assert noise.floor("exact_match", 200, "gpt") == pytest.approx(1.959964 * (14 / 40 / 2 / 200) ** 0.5)
    report = build(made, {"gates": []}, noise=noise)[1]
    assert report["differences"]["gpt"]["exact_match"]["value"] == pytest.approx(0.03)
    assert report["differences"]["gpt"]["exact_match"]["below_noise"] is True
    assert report["differences"]["base"]["exact_match"]["below_noise"] is False
    assert report["noise"]["arms"]["gpt"]["changed_texts"] > 0


def test_nine_differences_of_ten_and_more_between_two_runs_alone_lie_below_the_floor() -> None:
    rng, below = random.Random(5), 0
    for _ in range(200):
        chances = [rng.choice((0.0, 0.05, 0.5, 0.95, 1.0)) for _ in range(200)]
        one, two, three = ([rng.random() < chance for chance in chances] for _ in range(3))
        arms = arm("fine_tuned", one.__getitem__, 200, 1), arm("base", two.__getitem__, 200)
        twice = arm("again", three.__getitem__, 200).answers
        made = sheet(200, *arms)
        noise = measure_noise(made, {"fine_tuned": twice, "base": twice}, local_metrics(OutputSpec()), {})
        assert noise is not None
        gap = (sum(one) - sum(two)) / 200
        below += gap == 0.0 or noise.below("exact_match", gap, 200, "base")
    assert below / 200 >= 0.9
