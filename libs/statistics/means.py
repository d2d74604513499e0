"""Means of graded scores within known limits, with intervals that hold near the limits."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from libs.contracts.errors import InvalidInput
from libs.contracts.estimates import Estimate
from libs.statistics.clusters import clustered_mean
from libs.statistics.special import student_cdf, student_quantile


@dataclass(frozen=True, slots=True)
class BoundedMean:
    """Mean of scores in [low, high] by Wilson's method on the sample of 0s and 1s that has the same variance.

    The score method for overdispersed and underdispersed proportions (Wilson 1927; McCullagh & Nelder 1989, section
    4.5): with scores rescaled to [0, 1], `size` is share (1 - share) / variance, so that for right-or-wrong scores of
    independent items it is Wilson's interval with Student's quantile. Scores that are all the same know no more than
    their number of clusters. Graded scores may hide rare extremes: to their variance comes that of half an item at
    either end of the scale that was not seen, and where their skewness reaches farther than Wilson's interval (`error`,
    `lean`; the Edgeworth correction of Student's t, Johnson 1978, JASA 73:536) so does theirs. The quantile has the
    degrees of freedom `trusted`; `freedom` are those of the design.
    """

    share: float
    size: float
    n: int
    clusters: int
    freedom: float
    low: float
    high: float
    trusted: float
    error: float = 0.0
    lean: float = 0.0

    def interval(self, confidence: float = 0.95) -> Estimate:
        """Two-sided interval; the whole range while there are fewer than two clusters."""
        value = self._out(self.share)
        if self.clusters < 2:
            return Estimate(value=value, low=self.low, high=self.high, n=self.n)
        z = student_quantile(0.5 + confidence / 2.0, self.trusted)
        centre = (self.share + z * z / (2 * self.size)) / (1 + z * z / self.size)
        spread = self.share * (1 - self.share) / self.size + z * z / (4 * self.size * self.size)
        half = z / (1 + z * z / self.size) * math.sqrt(spread)
        reach = self.error * (z + abs(self.lean) / 6.0 * (2.0 * z * z + 1.0))
        low = min(centre - half, self.share - reach) if self.lean < 0.0 else centre - half
        high = max(centre + half, self.share + reach) if self.lean > 0.0 else centre + half
        low, high = min(self.share, max(0.0, low)), max(self.share, min(1.0, high))
        return Estimate(value=value, low=self._out(low), high=self._out(high), n=self.n)

    def p_greater(self, bound: float) -> float:
        """One-sided p-value of H0: mean <= bound, the test that the interval inverts."""
        inside = (bound - self.low) / (self.high - self.low)
        if self.clusters < 2 or inside >= 1.0:
            return 1.0
        if inside <= 0.0:
            return 0.0 if self.share > max(0.0, inside) else 1.0
        plain = (self.share - inside) / math.sqrt(inside * (1.0 - inside) / self.size)
        return student_cdf(-min(plain, self._leaning(inside)), self.trusted)

    def scaled(self, factor: float) -> Self:
        """What `factor` times as many items in as many more clusters would show if they were like these."""
        return replace(
            self,
            size=self.size * factor,
            n=round(self.n * factor),
            clusters=max(1, round(self.clusters * factor)),
            freedom=max(1.0, (self.freedom + 1.0) * factor - 1.0),
            trusted=max(1.0, (self.trusted + 1.0) * factor - 1.0),
            error=self.error / math.sqrt(factor),
            lean=self.lean / math.sqrt(factor),
        )

    def describe(self) -> str:
        """The sample in words."""
        return f"{self.n} items in {self.clusters} groups"

    def _leaning(self, inside: float) -> float:
        """The quantile whose skewed lower limit is `inside`; inf where skewness reaches no farther down."""
        slope = -self.lean / 6.0
        if slope <= 0.0 or self.error == 0.0:
            return math.inf
        gap = (self.share - inside) / self.error
        root = 1.0 - 8.0 * slope * (slope - gap)
        return (math.sqrt(root) - 1.0) / (4.0 * slope) if root > 0.0 else -math.inf

    def _out(self, share: float) -> float:
        return self.low + share * (self.high - self.low)


def bounded_mean(
    values: Sequence[float], clusters: Sequence[Hashable] | None = None, limits: tuple[float, float] = (0.0, 1.0)
) -> BoundedMean:
    """Mean of scores that cannot leave `limits`; `clusters[i]` names what item i shares with others."""
    low, high = limits
    scores = np.asarray(values, dtype=float)
    if not low < high:
        raise InvalidInput(f"limits {low} and {high} are no range", field="limits")
    if not ((scores >= low) & (scores <= high)).all():
        raise InvalidInput(f"scores must lie in [{low}, {high}]", field="values")
    if scores.size == 0:
        return BoundedMean(0.0, 0.0, 0, 0, 0.0, low, high, 0.0)
    found = clustered_mean((scores - low) / (high - low), clusters)
    share = min(1.0, max(0.0, found.mean))
    if found.standard_error == 0.0:
        size = found.n / found.company
        return BoundedMean(share, size, found.n, found.clusters, found.freedom, low, high, found.trusted)
    variance, lean = found.standard_error**2, 0.0
    trusted = found.trusted if found.company > 1.0 else found.freedom
    if ((scores > low) & (scores < high)).any():
        crowd = max(found.design_effect, math.sqrt((1.0 + found.company) / 2.0))
        variance += (share**2 + (1.0 - share) ** 2) / 2.0 * (crowd / found.n) ** 2
        lean, trusted = found.skewness, found.trusted
    size = share * (1.0 - share) / variance
    error = math.sqrt(variance)
    return BoundedMean(share, size, found.n, found.clusters, found.freedom, low, high, trusted, error, lean)


def mean_estimate(
    values: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    limits: tuple[float, float] = (0.0, 1.0),
) -> Estimate:
    """Mean of scores that cannot leave `limits`, with its clustered interval."""
    return bounded_mean(values, clusters, limits).interval(confidence)


def open_mean(
    values: Sequence[float], clusters: Sequence[Hashable] | None = None, confidence: float = 0.95
) -> Estimate | None:
    """Mean on a scale without ends (latency, tokens, cost): Student's t on the cluster-robust error.

    None with fewer than two clusters: on such a scale nothing can be said then. Long tails want many items, or the
    quantiles of libs.statistics.sequences.
    """
    found = clustered_mean(values, clusters)
    if found.clusters < 2:
        return None
    reach = student_quantile(0.5 + confidence / 2.0, found.freedom) * found.standard_error
    return Estimate(value=found.mean, low=found.mean - reach, high=found.mean + reach, n=found.n)
