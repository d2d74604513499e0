"""Confidence sequences for means of open scales and for quantiles."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from libs.contracts.errors import InvalidInput
from libs.contracts.estimates import Verdict
from libs.statistics.sequences import asymptotic_sequence, quantile_sequence, quantile_verdict

LOOKS = (20, 50, 100, 200, 400, 800, 1500)


@pytest.mark.parametrize("probability", [0.5, 0.95])
@pytest.mark.parametrize("rounded", [False, True])
def test_a_quantile_is_held_at_all_looks(probability: float, rounded: bool) -> None:
    rng, missed = np.random.default_rng(3), 0

    def draw(n: int) -> NDArray[np.float64]:
        values: NDArray[np.float64] = rng.lognormal(0.0, 1.0, n)
        rough: NDArray[np.float64] = np.round(values)
        return rough if rounded else values

    truth = float(np.quantile(draw(2_000_000), probability, method="inverted_cdf"))
    for _ in range(200):
        latencies = draw(LOOKS[-1])
        for look in LOOKS:
            found = quantile_sequence(np.sort(latencies[:look]).tolist(), probability)
            if not found.low <= truth <= found.high:
                missed += 1
                break
    assert missed / 200 <= 0.05


def test_a_quantile_is_narrow_with_many_values_and_unbounded_with_few() -> None:
    many = quantile_sequence([i / 5000 for i in range(5000)], 0.95)
    assert 0.935 < many.low < 0.95 < many.high < 0.965
    assert many.estimate is not None
    few = quantile_sequence([1.0, 2.0, 3.0], 0.95)
    assert few.high == math.inf
    assert few.estimate is None
    assert quantile_sequence([], 0.5).low == -math.inf


def test_latency_has_three_verdicts() -> None:
    rng = np.random.default_rng(4)
    stable, same, slow = (np.sort(rng.lognormal(0.0, 0.3, 3000) * k).tolist() for k in (1.0, 1.0, 1.6))
    assert quantile_verdict(same, stable, 0.95, 1.3)[0] is Verdict.PASS
    assert quantile_verdict(slow, stable, 0.95, 1.3)[0] is Verdict.FAIL
    verdict, reason = quantile_verdict(same[::100], stable, 0.95, 1.3)
    assert verdict is Verdict.INCONCLUSIVE
    assert "30 and 3000 values" in reason


def test_two_streams_alike_are_rarely_told_apart_however_often_one_looks() -> None:
    rng, wrong = np.random.default_rng(7), 0
    for _ in range(100):
        ours, theirs = rng.lognormal(0.0, 0.5, 1000), rng.lognormal(0.0, 0.5, 1000)
        for look in (50, 100, 200, 400, 700, 1000):
            left, right = np.sort(ours[:look]).tolist(), np.sort(theirs[:look]).tolist()
            if quantile_verdict(left, right, 0.9, 1.0)[0] is Verdict.FAIL:
                wrong += 1
                break
    assert wrong / 100 <= 0.05


def test_the_mean_of_a_long_tailed_scale_is_held_at_all_looks() -> None:
    rng, missed, looks = np.random.default_rng(5), 0, np.arange(100, 3000)
    for _ in range(500):
        tokens = rng.gamma(2.0, 50.0, 3000)
        means = np.cumsum(tokens)[looks - 1] / looks
        spreads = np.sqrt(np.maximum(np.cumsum(tokens**2)[looks - 1] / looks - means**2, 0.0))
        # The interval is mean +- deviation times a factor of n alone.
        factors = np.array([_reach(int(n)) for n in looks[::50]])
        missed += bool((np.abs(means[::50] - 100.0) > spreads[::50] * factors).any())
    assert missed / 500 <= 0.05
    assert asymptotic_sequence(50, 1.0, 1.0) is None


def test_disorder_is_refused() -> None:
    with pytest.raises(InvalidInput, match="ascending"):
        quantile_sequence([2.0, 1.0], 0.5)
    with pytest.raises(InvalidInput, match="quantile"):
        quantile_sequence([1.0], 1.0)
    with pytest.raises(InvalidInput, match="negative"):
        asymptotic_sequence(200, 0.0, -1.0)


def _reach(n: int) -> float:
    found = asymptotic_sequence(n, 0.0, 1.0)
    assert found is not None
    return found.high
