"""Means of graded scores, and gates on them."""

import numpy as np
import pytest

from libs.contracts.errors import InvalidInput
from libs.contracts.estimates import Verdict
from libs.statistics.gates import floor_of_mean
from libs.statistics.means import bounded_mean, mean_estimate, open_mean
from libs.statistics.proportions import wilson
from libs.statistics.simulate.coverage import SCORES, SHAPES, coverage, score_interval


@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize("shape", ["60 items", "20 groups of 5", "60 groups of 5"])
def test_intervals_of_a_mean_cover(scores: str, shape: str) -> None:
    found = coverage(SCORES[scores], SHAPES[shape], score_interval, 400, seed=1)
    assert found.covered >= 0.93
    assert found.relative_width <= 1.75


def test_right_or_wrong_scores_have_the_wilson_interval_but_for_students_quantile() -> None:
    ours, theirs = mean_estimate([1.0] * 700 + [0.0] * 300), wilson(700, 1000)
    assert ours.low == pytest.approx(theirs.low, abs=2e-4)
    assert ours.high == pytest.approx(theirs.high, abs=2e-4)


def test_scores_that_are_all_the_same_still_have_width() -> None:
    assert mean_estimate([1.0] * 50).low == pytest.approx(0.925, abs=0.01)
    assert mean_estimate([1.0] * 50, [i // 5 for i in range(50)]).low < 0.7
    half = mean_estimate([0.5] * 50)
    assert half.low < 0.4 < 0.6 < half.high


def test_a_scale_has_its_own_limits() -> None:
    stars = mean_estimate([4.0, 5.0, 5.0, 3.0] * 20, limits=(1.0, 5.0))
    assert 1.0 < stars.low < stars.value < stars.high < 5.0
    with pytest.raises(InvalidInput, match="lie in"):
        mean_estimate([6.0], limits=(1.0, 5.0))


def test_without_two_groups_nothing_is_known() -> None:
    assert mean_estimate([]).model_dump() == {"value": 0.0, "low": 0.0, "high": 1.0, "n": 0}
    alone = mean_estimate([0.9, 0.8], ["one", "one"])
    assert (alone.low, alone.high) == (0.0, 1.0)
    assert open_mean([12.0, 14.0], ["one", "one"]) is None
    assert open_mean([12.0, 14.0, 13.0]) is not None


def test_intervals_of_an_open_scale_cover() -> None:
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(400):
        latency = np.repeat(rng.gamma(3.0, 0.5, 60), 3) + rng.gamma(2.0, 0.5, 180)
        found = open_mean(latency.tolist(), [i // 3 for i in range(180)])
        assert found is not None
        covered.append(found.low <= 2.5 <= found.high)
    assert np.mean(covered) >= 0.93


def test_the_p_value_is_that_of_the_interval() -> None:
    found = bounded_mean([0.9, 0.8, 1.0, 0.4, 0.7] * 20)
    low = found.interval(0.9).low
    assert found.p_greater(low) == pytest.approx(0.05, abs=1e-6)
    assert found.p_greater(-1.0) == 0.0
    assert found.p_greater(1.0) == 1.0


def test_a_floor_on_graded_scores_has_three_verdicts() -> None:
    scores = [0.9, 0.8, 1.0, 0.4, 0.7] * 20
    assert floor_of_mean(scores, 0.6).verdict is Verdict.PASS
    assert floor_of_mean(scores, 0.9).verdict is Verdict.FAIL
    assert floor_of_mean(scores, 0.76).verdict is Verdict.INCONCLUSIVE
    few = floor_of_mean(scores, 0.6, clusters=[i // 10 for i in range(100)])
    assert few.verdict is Verdict.INCONCLUSIVE
    assert "fewer than 20 independent groups" in few.reason
