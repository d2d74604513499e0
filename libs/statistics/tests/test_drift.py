"""Drift by effect size."""

import math

import numpy as np
import pytest

from libs.contracts.errors import InvalidInput
from libs.contracts.estimates import Verdict
from libs.statistics.drift import bin_edges, counts_in, drift


def test_the_index_is_the_textbook_one() -> None:
    # Half a count in each bin vanishes beside a million; the sampling bias with it.
    found = drift([500_000, 300_000, 200_000], [400_000, 350_000, 250_000])
    textbook = 0.1 * math.log(5 / 4) + 0.05 * math.log(3.5 / 3) + 0.05 * math.log(2.5 / 2)
    assert found.index.value == pytest.approx(textbook, rel=1e-3)
    assert drift([10**6, 0], [0, 10**6]).distance.value == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("bins", "tilt", "now"), [(5, 0.2, 300), (10, 0.4, 300), (20, 0.3, 2000)])
def test_the_intervals_cover(bins: int, tilt: float, now: int) -> None:
    rng = np.random.default_rng(1)
    before = rng.dirichlet(np.full(bins, 4.0))
    after = before * np.exp(tilt * rng.normal(size=bins))
    after /= after.sum()
    index = float(((after - before) * np.log(after / before)).sum())
    middle = (before + after) / 2
    distance = float(((before * np.log2(before / middle)) + (after * np.log2(after / middle))).sum()) / 2
    found = [drift(rng.multinomial(5000, before).tolist(), rng.multinomial(now, after).tolist()) for _ in range(150)]
    assert sum(one.index.low <= index <= one.index.high for one in found) / 150 >= 0.93
    assert sum(one.distance.low <= distance <= one.distance.high for one in found) / 150 >= 0.93


def test_small_samples_of_the_same_traffic_are_never_called_drift() -> None:
    rng, shares = np.random.default_rng(2), np.full(10, 0.1)
    verdicts = [drift(rng.multinomial(2000, shares).tolist(), rng.multinomial(60, shares).tolist()) for _ in range(200)]
    assert sum(one.verdict is Verdict.FAIL for one in verdicts) <= 2
    # What the index says without a correction: large, from nothing but sampling.
    assert np.median([one.index.value for one in verdicts]) < 0.1


def test_drift_has_three_verdicts() -> None:
    assert drift([500, 300, 200], [5000, 3000, 2000]).verdict is Verdict.PASS
    assert drift([5000, 3000, 2000], [200, 300, 500]).verdict is Verdict.FAIL
    assert drift([500, 300, 200], [20, 18, 12]).verdict is Verdict.INCONCLUSIVE
    assert drift([500, 300], [0, 0]).verdict is Verdict.INCONCLUSIVE


def test_bins_are_about_equally_full_and_keep_repeated_values_together() -> None:
    edges = bin_edges([float(i) for i in range(1000)], 4)
    assert counts_in([float(i) for i in range(1000)], edges) == (250, 250, 250, 250)
    assert counts_in([-5.0, 5000.0], edges) == (1, 0, 0, 1)
    assert bin_edges([7.0] * 50, 10) == (7.0,)


def test_counts_over_different_bins_are_refused() -> None:
    with pytest.raises(InvalidInput, match="same two bins"):
        drift([1, 2], [1, 2, 3])
    with pytest.raises(InvalidInput, match="negative"):
        drift([1, 2], [1, -2])
    with pytest.raises(InvalidInput, match="reference"):
        bin_edges([], 4)
