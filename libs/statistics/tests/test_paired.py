"""Paired differences, with clusters and without."""

import math
import random

import pytest

from libs.contracts.errors import InvalidInput
from libs.contracts.events import Verdict
from libs.statistics import tango
from libs.statistics.clusters import clustered_error
from libs.statistics.gates import floor, non_inferiority, superiority
from libs.statistics.multiplicity import holm
from libs.statistics.paired import mcnemar, paired_difference


def pairs(wins: int, losses: int, ties: int) -> tuple[list[float], list[float]]:
    return [1.0] * wins + [0.0] * losses + [1.0] * ties, [0.0] * wins + [1.0] * losses + [1.0] * ties


def test_the_clustered_error_of_singletons_is_the_ordinary_one() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    mean = 0.6
    ordinary = math.sqrt(sum((value - mean) ** 2 for value in values) / 4 / 5)
    assert clustered_error(values, range(5))[0] == pytest.approx(ordinary)


def test_copies_of_an_item_in_one_cluster_add_no_information() -> None:
    alone = paired_difference(*pairs(12, 4, 14))
    treatment, control = pairs(12, 4, 14)
    copied = paired_difference([s for s in treatment for _ in range(5)], [s for s in control for _ in range(5)],
                               [i for i in range(30) for _ in range(5)])  # fmt: skip
    assert copied.standard_error == pytest.approx(alone.standard_error)
    assert copied.interval().low == pytest.approx(alone.interval().low, abs=0.01)


def test_mcnemar_is_exact() -> None:
    assert mcnemar(10, 0) == pytest.approx(2 / 1024)
    assert mcnemar(8, 2) == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert mcnemar(5, 5) == 1.0
    assert mcnemar(0, 0) == 1.0


def test_the_score_interval_gives_the_published_one() -> None:
    # Tango 1998, table of the example with 44 pairs of which one is discordant.
    low, high = tango.interval(0, 1, 44, 1.959964)
    assert low == pytest.approx(-0.1184, abs=2e-3)
    assert high == pytest.approx(0.0600, abs=2e-2)
    mirrored = tango.interval(1, 0, 44, 1.959964)
    assert mirrored[0] == pytest.approx(-high)
    assert mirrored[1] == pytest.approx(-low)


def test_identical_arms_on_few_items_prove_nothing() -> None:
    same = [1.0, 0.0, 1.0, 1.0, 0.0] * 2
    few = paired_difference(same, same)
    assert few.standard_error == 0.0
    assert non_inferiority(few, 0.02).verdict is Verdict.INCONCLUSIVE
    many = paired_difference(same * 60, same * 60)
    assert non_inferiority(many, 0.02).verdict is Verdict.PASS


def test_one_cluster_alone_never_decides() -> None:
    one = paired_difference([1.0] * 50, [0.0] * 50, ["template"] * 50)
    assert superiority(one).verdict is Verdict.INCONCLUSIVE


def test_gates_have_three_verdicts() -> None:
    better, worse, unclear = (
        paired_difference(*pairs(60, 5, 35)),
        paired_difference(*pairs(5, 60, 35)),
        paired_difference(*pairs(20, 20, 60)),
    )
    assert superiority(better).verdict is Verdict.PASS
    assert superiority(worse).verdict is Verdict.FAIL
    assert superiority(unclear).verdict is Verdict.INCONCLUSIVE
    assert non_inferiority(unclear, 0.02).verdict is Verdict.INCONCLUSIVE
    assert non_inferiority(unclear, 0.2).verdict is Verdict.PASS
    assert non_inferiority(worse, 0.2).verdict is Verdict.FAIL
    assert floor(95, 100, 0.8).verdict is Verdict.PASS
    assert floor(60, 100, 0.8).verdict is Verdict.FAIL
    assert floor(80, 100, 0.8).verdict is Verdict.INCONCLUSIVE
    assert floor(0, 0, 0.8).verdict is Verdict.INCONCLUSIVE


def test_a_decision_says_its_numbers() -> None:
    reason = superiority(paired_difference(*pairs(60, 5, 35))).reason
    assert "+0.550" in reason
    assert "60 won, 5 lost" in reason


def test_verdicts_and_p_values_agree() -> None:
    for wins in range(0, 40, 4):
        difference = paired_difference(*pairs(wins, 12, 50))
        decision = superiority(difference, 0.05)
        assert (decision.verdict is Verdict.PASS) == (decision.p_value < 0.05)
        assert (decision.verdict is Verdict.FAIL) == (difference.p_less(0.05) < 0.05)


def test_holm_adjusts_in_steps() -> None:
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({}) == {}


def test_arms_of_different_length_are_refused() -> None:
    with pytest.raises(InvalidInput, match="same items"):
        paired_difference([1.0], [])
    with pytest.raises(InvalidInput, match="lie in"):
        paired_difference([2.0], [1.0])


@pytest.mark.parametrize("discordant", [0.05, 0.3])
def test_the_interval_covers_with_clusters_and_small_samples(discordant: float) -> None:
    draw = random.Random(11)
    covered = 0
    for _ in range(800):
        treatment, control, groups = [], [], []
        for group in range(40):
            # All three items of a group share their fate half of the time.
            shared = _draw_pair(draw, discordant)
            for _ in range(3):
                left, right = shared if draw.random() < 0.5 else _draw_pair(draw, discordant)
                treatment.append(left)
                control.append(right)
                groups.append(group)
        estimate = paired_difference(treatment, control, groups).interval()
        covered += estimate.low <= discordant / 3 <= estimate.high
    assert covered / 800 >= 0.93


def test_non_inferiority_at_the_margin_is_rarely_claimed() -> None:
    draw = random.Random(13)
    passed = 0
    for _ in range(1000):
        items = [draw.random() for _ in range(200)]
        treatment = [0.0 if u < 0.06 else 1.0 for u in items]
        control = [0.0 if 0.06 <= u < 0.08 else 1.0 for u in items]
        passed += non_inferiority(paired_difference(treatment, control), 0.04).verdict is Verdict.PASS
    assert passed / 1000 <= 0.065


def _draw_pair(draw: random.Random, discordant: float) -> tuple[float, float]:
    u = draw.random()
    if u < discordant * 2 / 3:
        return 1.0, 0.0
    return (0.0, 1.0) if u < discordant else (1.0, 1.0)
