"""Corpus metrics (BLEU, chrF, micro-averaged F1, weighted means) by bootstrap from sufficient statistics.

A corpus metric is a function of summed per-item statistics. Resampling sums instead of texts makes a thousand draws
over thousands of items a matter of milliseconds.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from libs.contracts.errors import InvalidInput
from libs.contracts.estimates import Estimate
from libs.statistics.clusters import cluster_codes, clustered_mean
from libs.statistics.special import student_cdf, student_quantile

Metric = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Scores (...,) from summed statistics (..., k)."""

_BLOCK = 4_000_000  # weights held at once


@dataclass(frozen=True, slots=True)
class CorpusEvidence:
    """A corpus score, or the difference of two, with its bootstrap distribution.

    Intervals are bias-corrected and accelerated (BCa; Efron 1987, JASA 82:171) on draws of whole clusters, with
    percentiles widened to Student's t for the number of clusters (Hesterberg 2015, American Statistician 69:371). The
    acceleration comes from the influence of each cluster. To the error comes that of half an item at either end of the
    scale that was not seen (`unseen`), so that identical arms still have an interval. `replicates` are sorted.
    """

    value: float
    replicates: NDArray[np.float64]
    acceleration: float
    standard_error: float
    unseen: float
    n: int
    clusters: int
    freedom: float
    limits: tuple[float, float]

    def interval(self, confidence: float = 0.95) -> Estimate:
        """Two-sided interval; the whole range while there are fewer than two clusters."""
        if not 0.0 < confidence < 1.0:
            raise InvalidInput("confidence must lie strictly between 0 and 1", field="confidence")
        low, high = self.limits
        if self.clusters >= 2:
            reach = student_quantile(0.5 + confidence / 2.0, self.freedom)
            low = max(low, self._edge(-reach))
            high = min(high, self._edge(reach))
        return Estimate(value=self.value, low=low, high=high, n=self.n)

    def p_greater(self, bound: float) -> float:
        """One-sided p-value of H0: value <= bound, from the interval turned round; never 0 with finitely many draws."""
        if self.clusters < 2 or bound >= self.limits[1]:
            return 1.0
        near, far = -60.0, 60.0
        for _ in range(60):
            middle = (near + far) / 2.0
            near, far = (middle, far) if self._edge(-middle) > bound else (near, middle)
        return max(1.0 / (len(self.replicates) + 1), student_cdf(-near, self.freedom))

    def p_less(self, bound: float) -> float:
        """One-sided p-value of H0: value >= bound."""
        return self.mirrored().p_greater(-bound)

    def mirrored(self) -> "CorpusEvidence":
        """The same comparison seen from the other arm."""
        low, high = self.limits
        return replace(
            self,
            value=-self.value,
            replicates=-self.replicates[::-1],
            acceleration=-self.acceleration,
            limits=(-high, -low),
        )

    def scaled(self, factor: float) -> "CorpusEvidence":
        """What `factor` times as many items in as many more clusters would show if they were like these."""
        narrower = 1.0 / math.sqrt(factor)
        return replace(
            self,
            replicates=self.value + (self.replicates - self.value) * narrower,
            acceleration=self.acceleration * narrower,
            standard_error=self.standard_error * narrower,
            unseen=self.unseen / factor,
            n=round(self.n * factor),
            clusters=max(1, round(self.clusters * factor)),
            freedom=max(1.0, (self.freedom + 1.0) * factor - 1.0),
        )

    def describe(self) -> str:
        """The sample in words."""
        return f"{self.n} items in {self.clusters} groups, {self.replicates.size} draws"

    def _edge(self, reach: float) -> float:
        """The value `reach` widened standard deviations away, on the scale of the bootstrap distribution."""
        away = self._percentile(reach) - self.value
        return self.value + math.copysign(math.hypot(away, reach * self.unseen), reach)

    def _percentile(self, reach: float) -> float:
        draws, size = self.replicates, self.replicates.size
        # sqrt(C / (C - 1)): resampling C clusters underestimates their variance by that much.
        widened = reach * math.sqrt((self.freedom + 1.0) / self.freedom)
        below = (np.count_nonzero(draws < self.value) + np.count_nonzero(draws <= self.value)) / 2.0
        bias = NormalDist().inv_cdf(min(max(below, 0.5), size - 0.5) / size)
        shifted = bias + widened
        corrected = bias + shifted / max(0.05, 1.0 - self.acceleration * shifted)
        rank = NormalDist().cdf(corrected) * size - 0.5
        if 0.0 <= rank <= size - 1.0:
            return float(np.interp(rank, np.arange(size), draws))
        # Beyond the last draw the normal tail goes on from the value.
        return self.value + widened * self.standard_error * math.sqrt(self.freedom / (self.freedom + 1.0))


def corpus_estimate(
    statistics: ArrayLike,
    metric: Metric,
    clusters: Sequence[Hashable] | None = None,
    *,
    draws: int = 1000,
    seed: int = 0,
    limits: tuple[float, float] = (0.0, 1.0),
) -> CorpusEvidence:
    """Score of one arm: `statistics` (n, k) are summed over items and scored by `metric`; `limits` is its scale.

    `clusters[i]` names what item i shares with others. The same inputs and seed give the same numbers.
    """
    sums = _checked(statistics, clusters)
    groups = _Groups(clusters, sums.shape[0])
    low, high = limits
    if sums.shape[0] == 0:
        return _nothing(limits)
    value = _score(metric, sums.sum(axis=0))
    replicates = _replicates([sums], metric, groups, draws, seed)[0]
    share = min(1.0, max(0.0, (value - low) / (high - low)))
    unseen = (high - low) * math.sqrt((share**2 + (1.0 - share) ** 2) / 2.0)
    return _evidence(value, replicates, _influence(sums, metric), groups, unseen, limits)


def corpus_difference(
    treatment: ArrayLike,
    control: ArrayLike,
    metric: Metric,
    clusters: Sequence[Hashable] | None = None,
    *,
    draws: int = 1000,
    seed: int = 0,
    limits: tuple[float, float] = (0.0, 1.0),
) -> CorpusEvidence:
    """Score of `treatment` less that of `control`, (n, k) each on the same items: both arms are resampled together
    (the paired bootstrap of Koehn 2004, EMNLP, by clusters). Goes into gates as a PairedDifference does.
    """
    left, right = _checked(treatment, clusters), _checked(control, clusters)
    if left.shape != right.shape:
        raise InvalidInput("both arms must cover the same items with the same statistics", field="control")
    span = limits[1] - limits[0]
    groups = _Groups(clusters, left.shape[0])
    if left.shape[0] == 0:
        return _nothing((-span, span))
    value = _score(metric, left.sum(axis=0)) - _score(metric, right.sum(axis=0))
    ours, theirs = _replicates([left, right], metric, groups, draws, seed)
    influence = _influence(left, metric) - _influence(right, metric)
    return _evidence(value, ours - theirs, influence, groups, span, (-span, span))


class _Groups:
    """Clusters of n items as numbers, and sums over them."""

    def __init__(self, names: Sequence[Hashable] | None, n: int) -> None:
        self.names = names
        self.codes = cluster_codes(names, n)
        self.count = int(self.codes.max()) + 1 if n else 0

    def sums(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.names is None:
            return rows
        columns = [np.bincount(self.codes, column, self.count) for column in rows.T]
        return np.stack(columns, axis=1)


def _replicates(
    arms: Sequence[NDArray[np.float64]], metric: Metric, groups: _Groups, draws: int, seed: int
) -> list[NDArray[np.float64]]:
    if draws < 100:
        raise InvalidInput(f"{draws} draws are too few for an interval; take 1000", field="draws")
    rng = np.random.default_rng(seed)
    sums = [groups.sums(arm) for arm in arms]
    parts: list[list[NDArray[np.float64]]] = [[] for _ in arms]
    block = max(1, _BLOCK // max(1, groups.count))
    for start in range(0, draws, block):
        size = min(block, draws - start)
        # A resample of C clusters with replacement is C throws of a die with C faces.
        weights = rng.multinomial(groups.count, np.full(groups.count, 1.0 / groups.count), size=size).astype(float)
        for part, arm in zip(parts, sums, strict=True):
            part.append(np.asarray(metric(weights @ arm), dtype=float))
    return [np.concatenate(part) for part in parts]


def _influence(sums: NDArray[np.float64], metric: Metric) -> NDArray[np.float64]:
    """How far each item moves the score (n,), by central differences of the metric at the totals."""
    totals = sums.sum(axis=0)
    step = np.maximum(1e-4 * np.abs(totals), 1e-9)
    shifts = np.diag(step)
    # Statistics are counts: a step below an empty sum would leave the metric's domain.
    lower = np.maximum(totals - shifts, np.minimum(totals, 0.0))
    upper = totals + shifts
    width = np.maximum(np.diagonal(upper - lower), 1e-300)
    slope = (np.asarray(metric(upper)) - np.asarray(metric(lower))) / width
    found: NDArray[np.float64] = (sums - totals / sums.shape[0]) @ np.where(np.isfinite(slope), slope, 0.0)
    return found


def _evidence(
    value: float,
    replicates: NDArray[np.float64],
    influence: NDArray[np.float64],
    groups: _Groups,
    unseen: float,
    limits: tuple[float, float],
) -> CorpusEvidence:
    if not np.isfinite(replicates).all():
        raise InvalidInput("the metric gives no finite number on every resample", field="metric")
    found = clustered_mean(influence, groups.names)
    crowd = max(found.design_effect, math.sqrt((1.0 + found.company) / 2.0))
    return CorpusEvidence(
        value=value,
        replicates=np.sort(replicates),
        acceleration=found.skewness / 6.0,
        standard_error=found.standard_error * found.n,
        unseen=unseen * crowd / found.n,
        n=found.n,
        clusters=found.clusters,
        freedom=max(1.0, found.freedom),
        limits=limits,
    )


def _nothing(limits: tuple[float, float]) -> CorpusEvidence:
    return CorpusEvidence(0.0, np.zeros(1), 0.0, 0.0, 0.0, 0, 0, 1.0, limits)


def _score(metric: Metric, sums: NDArray[np.float64]) -> float:
    value = float(np.asarray(metric(sums)))
    if not math.isfinite(value):
        raise InvalidInput(f"the metric gives {value} on all items", field="metric")
    return value


def _checked(statistics: ArrayLike, clusters: Sequence[Hashable] | None) -> NDArray[np.float64]:
    rows = np.asarray(statistics, dtype=float)
    if rows.ndim != 2 or (clusters is not None and len(clusters) != rows.shape[0]):
        raise InvalidInput("statistics must be (items, k) with one cluster an item", field="statistics")
    if not np.isfinite(rows).all():
        raise InvalidInput("statistics must be finite numbers", field="statistics")
    return rows
