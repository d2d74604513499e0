"""How often intervals hold the truth, and how wide they are beside the narrowest that could."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from libs.contracts.estimates import Estimate
from libs.statistics.clusters import clustered_mean
from libs.statistics.corpus import corpus_difference
from libs.statistics.means import mean_estimate
from libs.statistics.paired import paired_difference

Array: TypeAlias = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Array]

_TRUTH = 2_000_000


@dataclass(frozen=True, slots=True)
class Coverage:
    """Share of simulated intervals that hold the truth; mean width as a multiple of the oracle's, which knows the true
    standard deviation of the estimate and that it is normal.
    """

    covered: float
    width: float
    relative_width: float
    runs: int


@dataclass(frozen=True, slots=True)
class Shape:
    """A sample: `clusters` of about `size` items each (exactly, or geometrically many), of which each item shares its
    cluster's score with probability sqrt(`correlation`).
    """

    clusters: int
    size: int = 1
    uneven: bool = False
    correlation: float = 0.0

    def sizes(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Items of each cluster."""
        return rng.geometric(1.0 / self.size, self.clusters) if self.uneven else np.full(self.clusters, self.size)


def _three_valued(gain: float, loss: float) -> Draw:
    def draw(rng: np.random.Generator, n: int) -> Array:
        u = rng.random(n)
        return np.where(u < gain, 1.0, np.where(u < gain + loss, -1.0, 0.0))

    return draw


def _dense(rng: np.random.Generator, n: int) -> Array:
    return np.clip(rng.normal(0.05, 0.3, n), -1.0, 1.0)


def _sparse(rng: np.random.Generator, n: int) -> Array:
    u, size = rng.random(n), rng.beta(0.5, 0.5, n)
    return np.where(u < 0.05, size, np.where(u < 0.08, -size, 0.0))


def _skewed(rng: np.random.Generator, n: int) -> Array:
    return np.where(rng.random(n) < 0.03, -rng.random(n), 0.02)


DIFFERENCES: dict[str, Draw] = {
    "right or wrong, 3 % differ": _three_valued(0.02, 0.01),
    "right or wrong, 10 % differ": _three_valued(0.07, 0.03),
    "right or wrong, 40 % differ": _three_valued(0.25, 0.15),
    "graded, all differ": _dense,
    "graded, 8 % differ": _sparse,
    "graded, small gains and rare large losses": _skewed,
}
"""Differences per item in [-1, 1]."""

SCORES: dict[str, Draw] = {
    "right or wrong, 95 % right": lambda rng, n: (rng.random(n) < 0.95).astype(float),
    "graded, around 0.8": lambda rng, n: rng.beta(8.0, 2.0, n),
    "graded, 85 % perfect": lambda rng, n: np.where(rng.random(n) < 0.85, 1.0, rng.random(n)),
    "0.98, or 0 for 3 %": lambda rng, n: np.where(rng.random(n) < 0.03, 0.0, 0.98),
}
"""Scores of one arm in [0, 1]."""

SHAPES: dict[str, Shape] = {
    "60 items": Shape(60),
    "200 items": Shape(200),
    "20 groups of 5": Shape(20, 5, correlation=0.3),
    "20 uneven groups, about 5": Shape(20, 5, uneven=True, correlation=0.3),
    "60 groups of 5": Shape(60, 5, correlation=0.3),
}


def difference_interval(values: Array, codes: Sequence[int]) -> Estimate:
    """That of paired_difference, whose arms lie in [0, 1]."""
    gains = np.maximum(values, 0.0)
    return paired_difference(gains.tolist(), (gains - values).tolist(), codes).interval()


def score_interval(values: Array, codes: Sequence[int]) -> Estimate:
    """That of mean_estimate."""
    return mean_estimate(values.tolist(), codes)


def textbook_interval(values: Array, _codes: Sequence[int]) -> Estimate:
    """Mean and 1.96 standard errors of independent items: what most tools print."""
    found = clustered_mean(values)
    reach = 1.96 * found.standard_error
    return Estimate(value=found.mean, low=found.mean - reach, high=found.mean + reach, n=found.n)


def coverage(
    draw: Draw, shape: Shape, interval: Callable[[Array, Sequence[int]], Estimate], runs: int, seed: int
) -> Coverage:
    """Simulate `runs` samples; those below the stated minimum of items or groups are not drawn again: they count."""
    rng = np.random.default_rng(seed)
    truth = float(draw(rng, _TRUTH).mean())
    found = []
    for _ in range(runs):
        codes: NDArray[np.int64] = np.repeat(np.arange(shape.clusters), shape.sizes(rng))
        shared = rng.random(codes.size) < np.sqrt(shape.correlation)
        values = np.where(shared, draw(rng, shape.clusters)[codes], draw(rng, codes.size))
        found.append(interval(values, codes.tolist()))
    return summary(found, truth)


def summary(found: Sequence[Estimate], truth: float) -> Coverage:
    """What intervals of one truth make together."""
    covered = sum(one.low <= truth <= one.high for one in found) / len(found)
    width = float(np.mean([one.high - one.low for one in found]))
    spread = float(np.std([one.value for one in found]))
    return Coverage(covered, width, width / (2.0 * 1.959964 * spread) if spread > 0.0 else np.inf, len(found))


def corpus_coverage(shape: Shape, runs: int, seed: int, draws: int = 400) -> Coverage:
    """Of the difference of two arms' micro-averaged F1 from counts of true and false positives and misses."""
    rng = np.random.default_rng(seed)
    everything = np.arange(400_000)
    truth = float(np.subtract(*(_f1(_counts(rng, everything, q).sum(axis=0)) for q in (0.8, 0.7))))
    found = []
    for run in range(runs):
        codes: NDArray[np.int64] = np.repeat(np.arange(shape.clusters), shape.sizes(rng))
        ours, theirs = _counts(rng, codes, 0.8), _counts(rng, codes, 0.7)
        found.append(corpus_difference(ours, theirs, _f1, codes.tolist(), draws=draws, seed=run).interval())
    return summary(found, truth)


def _counts(rng: np.random.Generator, codes: NDArray[np.int64], quality: float) -> Array:
    n = codes.size
    fields = rng.geometric(0.3, n)
    luck = np.where(rng.random(n) < 0.5, rng.random(int(codes.max()) + 1)[codes], rng.random(n))
    hits = rng.binomial(fields, np.clip(quality + 0.5 * (luck - 0.5), 0.0, 1.0))
    return np.stack([hits, rng.binomial(fields, 0.1), fields - hits], axis=1).astype(float)


def _f1(sums: Array) -> Array:
    whole = 2.0 * sums[..., 0] + sums[..., 1] + sums[..., 2]
    found: Array = np.divide(2.0 * sums[..., 0], whole, out=np.ones_like(whole), where=whole > 0.0)
    return found
