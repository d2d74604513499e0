"""Win rates at equal length."""

import numpy as np
import pytest

from libs.contracts.errors import InvalidInput
from libs.statistics.lengths import length_controlled


@pytest.mark.parametrize(("n", "worth", "pull", "size"), [(60, 0.3, 1.0, 1), (150, 0.0, 1.5, 1), (100, 0.3, 1.0, 5)])
def test_the_interval_covers_where_length_pulls(n: int, worth: float, pull: float, size: int) -> None:
    rng = np.random.default_rng(1)
    truth = 1.0 / (1.0 + np.exp(-worth))
    covered, raw = [], []
    for _ in range(300):
        gaps = rng.normal(40.0, 80.0, n)
        chance = 1.0 / (1.0 + np.exp(-worth - pull * np.tanh(gaps / gaps.std())))
        found = length_controlled(
            (rng.random(n) < chance).astype(float).tolist(), gaps.tolist(), [i // size for i in range(n)]
        )
        covered.append(found.rate.low <= truth <= found.rate.high)
        raw.append(found.raw.value - truth)
    assert np.mean(covered) >= 0.93
    assert np.mean(raw) > 0.04


def test_where_length_plays_no_part_the_rate_is_the_raw_one() -> None:
    found = length_controlled([1.0, 0.0, 1.0, 0.5, 1.0] * 20, [3.0] * 100)
    assert found.rate.value == pytest.approx(found.raw.value, abs=0.005)
    assert found.pull == 0.0


def test_a_clean_sweep_stays_finite_and_few_votes_say_nothing() -> None:
    sweep = length_controlled([1.0] * 50, [float(i) for i in range(50)])
    assert 0.8 < sweep.rate.low < sweep.rate.high < 1.0
    assert (length_controlled([1.0], [5.0]).rate.low, length_controlled([], []).rate.high) == (0.0, 1.0)
    with pytest.raises(InvalidInput, match="difference of lengths"):
        length_controlled([1.0], [])
