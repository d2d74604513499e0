"""Evidence on the mean of bounded scores, looked at after every one."""

import math

import numpy as np
import pytest

from libs.contracts.errors import InvalidInput
from libs.statistics.bounded import confidence_sequence, log_evidence_above, log_evidence_below
from libs.statistics.evidence import plain
from libs.statistics.simulate.peeking import means_peeked

TWENTY = math.log(20)


@pytest.mark.parametrize(("win", "loss", "bound"), [(0.2, 0.2, 0.0), (0.02, 0.07, -0.05), (0.3, 0.35, -0.05)])
def test_a_mean_at_the_bound_is_rarely_claimed_to_lie_above(win: float, loss: float, bound: float) -> None:
    assert means_peeked(win, loss, bound, alpha=0.05, looks=1000, runs=1000, seed=1).rate <= 0.05


def test_a_mean_above_the_bound_is_found() -> None:
    found = means_peeked(0.3, 0.1, 0.0, alpha=0.05, looks=1000, runs=300, seed=1)
    assert found.rate >= 0.99
    assert found.median <= 120


def test_a_hundred_ties_show_non_inferiority_and_never_superiority() -> None:
    assert log_evidence_above({0.0: 100}, -0.05) >= TWENTY
    assert log_evidence_above({0.0: 10_000}, 0.0) <= 0.0


def test_inferiority_is_found_and_mirrors_superiority() -> None:
    counts = {1.0: 3, 0.0: 30, -1.0: 40}
    assert log_evidence_below(counts, -0.05) >= TWENTY
    flipped = {1.0: 40, 0.0: 30, -1.0: 3}
    assert log_evidence_below(counts, 0.0) == pytest.approx(log_evidence_above(flipped, 0.0))


def test_evidence_of_superiority_is_always_evidence_of_non_inferiority() -> None:
    for wins in range(0, 30, 3):
        for losses in range(0, 30, 3):
            counts = {1.0: wins, 0.0: 10, -1.0: losses}
            assert log_evidence_above(counts, -0.05) >= log_evidence_above(counts, 0.0)


def test_the_confidence_sequence_holds_the_mean_at_all_times() -> None:
    rng, missed = np.random.default_rng(8), 0
    for _ in range(100):
        scores = rng.choice([1.0, 0.0, -1.0], 1000, p=[0.4, 0.5, 0.1])
        for look in (10, 20, 40, 80, 160, 320, 640, 1000):
            values, counts = np.unique(scores[:look], return_counts=True)
            seen = dict(zip(values.tolist(), counts.tolist(), strict=True))
            low, high = confidence_sequence(seen)
            if not low <= 0.3 <= high:
                missed += 1
                break
    assert missed <= 5
    assert confidence_sequence({}) == (-1.0, 1.0)
    low, high = confidence_sequence({1.0: 400, 0.0: 500, -1.0: 100})
    assert high - low < 0.2


def test_evidence_never_overflows_and_scores_out_of_range_are_refused() -> None:
    assert plain(10_000.0) == 1e300
    assert math.isfinite(log_evidence_above({1.0: 1_000_000}, 0.0))
    with pytest.raises(InvalidInput, match="scores"):
        log_evidence_above({1.5: 1}, 0.0)
    with pytest.raises(InvalidInput, match="bound"):
        log_evidence_above({1.0: 1}, 1.0)
