"""Corpus metrics by bootstrap from sufficient statistics."""

import numpy as np
import pytest
from numpy.typing import NDArray

from libs.contracts.errors import InvalidInput
from libs.contracts.estimates import Verdict
from libs.statistics.corpus import corpus_difference, corpus_estimate
from libs.statistics.gates import floor_of, non_inferiority, superiority
from libs.statistics.simulate.coverage import Shape, corpus_coverage


def ratio(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = sums[..., 0] / sums[..., 1]
    return found


def rows(quality: float, n: int = 300, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    tried = rng.integers(1, 12, n)
    found: NDArray[np.float64] = np.stack([rng.binomial(tried, quality), tried], axis=1).astype(float)
    return found


@pytest.mark.parametrize("shape", [Shape(60), Shape(20, 5, correlation=0.3), Shape(30, 4, uneven=True)])
def test_intervals_of_a_corpus_metric_cover(shape: Shape) -> None:
    found = corpus_coverage(shape, 300, seed=4)
    assert found.covered >= 0.93
    assert found.relative_width <= 1.6


def test_the_standard_error_is_that_of_the_draws_and_not_of_their_mean() -> None:
    # A published evaluator divides by the root of the number of draws: thirty times too small.
    found = corpus_estimate(rows(0.7), ratio, draws=2000)
    assert float(found.replicates.std()) == pytest.approx(found.standard_error, rel=0.1)
    more = corpus_estimate(rows(0.7), ratio, draws=8000)
    assert float(more.replicates.std()) == pytest.approx(float(found.replicates.std()), rel=0.1)


def test_the_difference_is_paired() -> None:
    ours = rows(0.7)
    theirs = ours - np.array([0.3, 0.0])
    apart = corpus_estimate(ours, ratio).interval()
    paired = corpus_difference(ours, theirs, ratio).interval()
    assert paired.high - paired.low < 0.5 * (apart.high - apart.low)
    assert corpus_difference(ours, theirs, ratio).p_greater(0.0) < 0.01


def test_gates_take_corpus_metrics() -> None:
    better = corpus_difference(rows(0.8), rows(0.6, seed=1), ratio)
    assert superiority(better).verdict is Verdict.PASS
    assert superiority(better.mirrored()).verdict is Verdict.FAIL
    assert non_inferiority(corpus_difference(rows(0.7), rows(0.7, seed=1), ratio), 0.1).verdict is Verdict.PASS
    few = superiority(corpus_difference(rows(0.9, 50), rows(0.5, 50, 1), ratio))
    assert few.verdict is Verdict.INCONCLUSIVE
    assert "more needed" in few.reason
    assert floor_of(corpus_estimate(rows(0.8), ratio), 0.7).verdict is Verdict.PASS


def test_identical_arms_still_have_an_interval() -> None:
    same = corpus_difference(rows(0.7), rows(0.7), ratio).interval()
    assert same.low < -0.004 < 0.004 < same.high


def test_the_same_seed_gives_the_same_interval_and_p_values_agree_with_it() -> None:
    first, second = (corpus_difference(rows(0.7), rows(0.65, seed=1), ratio, seed=5) for _ in range(2))
    assert first.interval() == second.interval()
    assert first.p_greater(first.interval(0.9).low) == pytest.approx(0.05, abs=1e-3)
    assert first.p_less(first.interval(0.9).high) == pytest.approx(0.05, abs=1e-3)


def test_groups_and_no_items_are_no_trouble() -> None:
    nothing = corpus_estimate(np.zeros((0, 2)), ratio).interval()
    assert (nothing.low, nothing.high, nothing.n) == (0.0, 1.0, 0)
    single = corpus_estimate(rows(0.5, 40), ratio, ["one"] * 40)
    assert single.p_greater(0.1) == 1.0
    copied = corpus_estimate(np.repeat(rows(0.5, 80), 4, axis=0), ratio, np.repeat(np.arange(80), 4).tolist())
    assert copied.standard_error == pytest.approx(corpus_estimate(rows(0.5, 80), ratio).standard_error, rel=0.02)


def test_what_cannot_be_resampled_is_refused() -> None:
    with pytest.raises(InvalidInput, match="same items"):
        corpus_difference(rows(0.5, 4), rows(0.5, 5), ratio)
    with pytest.raises(InvalidInput, match="too few"):
        corpus_estimate(rows(0.5), ratio, draws=10)
    with pytest.raises(InvalidInput, match="nan on all items"), np.errstate(invalid="ignore"):
        corpus_estimate(np.zeros((5, 2)), ratio)
