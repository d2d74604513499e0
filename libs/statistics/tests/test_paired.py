"""Paired differences, with clusters and without."""

import math

import numpy as np
import pytest

from libs.contracts.errors import InvalidInput
from libs.contracts.estimates import Verdict
from libs.statistics import tango
from libs.statistics.gates import non_inferiority, superiority
from libs.statistics.paired import mcnemar, paired_difference
from libs.statistics.simulate.coverage import DIFFERENCES, SHAPES, coverage, difference_interval, textbook_interval

WIDEST = {"60 items": 1.7, "200 items": 1.4, "20 groups of 5": 2.1, "20 uneven groups, about 5": 2.6}


def pairs(wins: int, losses: int, ties: int) -> tuple[list[float], list[float]]:
    return [1.0] * wins + [0.0] * losses + [1.0] * ties, [0.0] * wins + [1.0] * losses + [1.0] * ties


@pytest.mark.parametrize("differences", DIFFERENCES)
@pytest.mark.parametrize("shape", WIDEST)
def test_intervals_of_a_difference_cover_and_are_not_wasteful(differences: str, shape: str) -> None:
    found = coverage(DIFFERENCES[differences], SHAPES[shape], difference_interval, 300, seed=2)
    assert found.covered >= 0.93
    assert found.relative_width <= WIDEST[shape]


def test_the_textbook_interval_does_not_cover_with_groups() -> None:
    found = coverage(DIFFERENCES["right or wrong, 10 % differ"], SHAPES["60 groups of 5"], textbook_interval, 400, 3)
    assert found.covered < 0.90


def test_mcnemar_is_exact() -> None:
    assert mcnemar(10, 0) == pytest.approx(2 / 1024)
    assert mcnemar(8, 2) == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert mcnemar(5, 5) == 1.0
    assert mcnemar(0, 0) == 1.0
    with pytest.raises(InvalidInput):
        mcnemar(-1, 0)


def test_mcnemar_claims_no_more_often_than_it_says() -> None:
    for n in (6, 17, 40, 150):
        rate = sum(math.comb(n, wins) for wins in range(n + 1) if mcnemar(wins, n - wins) <= 0.05) / 2**n
        assert rate <= 0.05


def test_the_score_interval_gives_the_published_one() -> None:
    # Tango 1998, table of the example with 44 pairs of which one is discordant.
    low, high = tango.interval(0, 1, 44, 1.959964)
    assert low == pytest.approx(-0.1184, abs=2e-3)
    assert high == pytest.approx(0.0600, abs=2e-2)
    mirrored = tango.interval(1, 0, 44, 1.959964)
    assert mirrored[0] == pytest.approx(-high)
    assert mirrored[1] == pytest.approx(-low)


def test_copies_of_an_item_in_one_cluster_add_no_information() -> None:
    alone = paired_difference(*pairs(12, 4, 14))
    treatment, control = pairs(12, 4, 14)
    copied = paired_difference([s for s in treatment for _ in range(5)], [s for s in control for _ in range(5)],
                               [i for i in range(30) for _ in range(5)])  # fmt: skip
    assert copied.standard_error == pytest.approx(alone.standard_error)
    assert copied.interval().low == pytest.approx(alone.interval().low, abs=0.01)


def test_identical_arms_on_few_items_prove_nothing() -> None:
    same = [1.0, 0.0, 1.0, 1.0, 0.0] * 14
    few = paired_difference(same, same)
    assert few.standard_error == 0.0
    assert non_inferiority(few, 0.02).verdict is Verdict.INCONCLUSIVE
    many = paired_difference(same * 10, same * 10)
    assert non_inferiority(many, 0.02).verdict is Verdict.PASS


def test_one_cluster_alone_never_decides() -> None:
    one = paired_difference([1.0] * 80, [0.0] * 80, ["template"] * 80)
    assert superiority(one).verdict is Verdict.INCONCLUSIVE
    assert one.p_greater(0.0) == 1.0
    assert (one.interval().low, one.interval().high) == (-1.0, 1.0)


def test_graded_scores_are_matched_in_mean_and_mean_square() -> None:
    found = paired_difference([0.9, 0.5, 0.3, 0.7], [0.4, 0.6, 0.3, 0.7])
    assert (found.gained - found.lost) * found.step / 4 == pytest.approx(found.mean)
    assert (found.gained + found.lost) * found.step**2 == pytest.approx(0.5**2 + 0.1**2)
    assert (found.wins, found.losses) == (1, 1)


def test_the_other_arm_sees_the_mirror_image() -> None:
    found = paired_difference([0.9, 0.5, 0.3, 0.7] * 5, [0.4, 0.6, 0.2, 0.7] * 5)
    there, here = found.interval(), found.mirrored().interval()
    assert here.low == pytest.approx(-there.high)
    assert here.high == pytest.approx(-there.low)
    assert found.p_less(0.1) == found.mirrored().p_greater(-0.1)


def test_p_values_are_those_of_the_interval() -> None:
    for treatment, control in (pairs(14, 6, 60), ([0.9, 0.5, 0.3, 0.7] * 20, [0.4, 0.6, 0.2, 0.75] * 20)):
        found = paired_difference(treatment, control)
        assert found.p_greater(found.interval(0.9).low) == pytest.approx(0.05, abs=1e-6)
        assert found.p_greater(-1.0) < 1e-6
        assert found.p_greater(1.0) == 1.0


def test_non_inferiority_at_the_margin_is_rarely_claimed() -> None:
    rng = np.random.default_rng(13)
    claimed = 0
    for _ in range(600):
        u = rng.random(200)
        found = paired_difference((u >= 0.06).astype(float).tolist(), ((u < 0.06) | (u >= 0.08)).astype(float).tolist())
        claimed += found.p_greater(-0.04) < 0.05
    assert claimed / 600 <= 0.065


def test_arms_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(InvalidInput, match="same items"):
        paired_difference([1.0], [])
    with pytest.raises(InvalidInput, match="lie in"):
        paired_difference([2.0], [1.0])
    with pytest.raises(InvalidInput, match="confidence"):
        paired_difference([1.0, 0.0], [1.0, 1.0]).interval(1.0)
