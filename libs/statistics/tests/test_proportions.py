"""Intervals of one proportion."""

import random

import pytest

from libs.contracts.errors import InvalidInput
from libs.statistics.proportions import score_p_value, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"), [(14, 20, 0.481, 0.855), (21, 30, 0.521, 0.833), (70, 100, 0.604, 0.781)]
)
def test_wilson_gives_the_published_intervals(successes: int, n: int, low: float, high: float) -> None:
    estimate = wilson(successes, n)
    assert estimate.low == pytest.approx(low, abs=5e-4)
    assert estimate.high == pytest.approx(high, abs=5e-4)


def test_wilson_of_an_unanimous_sample_still_has_width() -> None:
    assert wilson(0, 20).low == 0.0
    assert wilson(0, 20).high == pytest.approx(0.161, abs=1e-3)
    assert wilson(20, 20).high == 1.0
    assert wilson(20, 20).low < 0.85


def test_wilson_of_no_items_says_nothing() -> None:
    estimate = wilson(0, 0)
    assert (estimate.low, estimate.high, estimate.n) == (0.0, 1.0, 0)


def test_clusters_widen_wilson() -> None:
    assert wilson(70, 100, design_effect=2.0).low == pytest.approx(wilson(35, 50).low)
    assert wilson(70, 100, design_effect=0.5) == wilson(70, 100)


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(InvalidInput, match="3 successes of 2"):
        wilson(3, 2)
    with pytest.raises(InvalidInput, match="confidence"):
        wilson(1, 2, 1.0)


def test_the_p_value_agrees_with_the_interval() -> None:
    for successes in range(0, 51, 5):
        for bound in (0.1, 0.35, 0.6, 0.9):
            inside = wilson(successes, 50, 0.90).low > bound
            assert inside == (score_p_value(successes, 50, bound) < 0.05)


def test_wilson_covers_about_as_often_as_it_says() -> None:
    draw = random.Random(7)
    for p in (0.1, 0.5, 0.9):
        covered = 0
        for _ in range(2000):
            estimate = wilson(sum(draw.random() < p for _ in range(60)), 60)
            covered += estimate.low <= p <= estimate.high
        assert 0.93 <= covered / 2000 <= 0.98
