"""Means and differences re-weighted to the current mix of traffic."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from libs.contracts.errors import InvalidInput
from libs.contracts.estimates import Estimate
from libs.statistics.corpus import CorpusEvidence, corpus_difference, corpus_estimate


@dataclass(frozen=True, slots=True)
class Stratified:
    """Evidence re-weighted to the mix (goes into gates), the share of traffic no item stands for, and those strata.

    Where few items carry much weight the evidence knows less than their number says: its `n` is the number of equally
    weighted items that would know as much (Kish 1965, Survey Sampling, section 11.7).
    """

    evidence: CorpusEvidence
    uncovered: float
    missing: tuple[str, ...]

    def interval(self, confidence: float = 0.95) -> Estimate:
        """Two-sided interval of the re-weighted value, over the covered part of the traffic."""
        return self.evidence.interval(confidence)


def stratified_mean(
    scores: Sequence[float],
    strata: Sequence[str],
    shares: Mapping[str, float],
    clusters: Sequence[Hashable] | None = None,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Stratified:
    """Mean of scores in [0, 1] as the traffic mix `shares` would have it (post-stratification; Holt & Smith 1979,
    JRSS A 142:33), with an interval by bootstrap of clusters.
    """
    rows, weights, missing = _rows(scores, strata, shares)
    evidence = corpus_estimate(rows, _Weighted(weights), clusters, draws=draws, seed=seed)
    return Stratified(_effective(evidence, rows, weights), missing[0], missing[1])


def stratified_difference(
    treatment: Sequence[float],
    control: Sequence[float],
    strata: Sequence[str],
    shares: Mapping[str, float],
    clusters: Sequence[Hashable] | None = None,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Stratified:
    """Paired difference of scores in [0, 1] on the same items, re-weighted likewise."""
    ours, weights, missing = _rows(treatment, strata, shares)
    theirs, _, _ = _rows(control, strata, shares)
    evidence = corpus_difference(ours, theirs, _Weighted(weights), clusters, draws=draws, seed=seed)
    return Stratified(_effective(evidence, ours, weights), missing[0], missing[1])


class _Weighted:
    """Weighted mean of stratum means from their sums (..., 2 strata): totals first, then counts."""

    def __init__(self, weights: np.ndarray) -> None:
        self._weights = weights

    def __call__(self, sums: np.ndarray) -> np.ndarray:
        strata = self._weights.size
        totals, counts = sums[..., :strata], sums[..., strata:]
        # A resample may miss a small stratum; its weight then goes to the others.
        weights = np.where(counts > 1e-9, self._weights, 0.0)
        means = np.divide(totals, counts, out=np.zeros_like(totals), where=counts > 1e-9)
        found: np.ndarray = (weights * means).sum(axis=-1) / weights.sum(axis=-1)
        return found


def _effective(evidence: CorpusEvidence, rows: np.ndarray, weights: np.ndarray) -> CorpusEvidence:
    counts = rows[:, weights.size :].sum(axis=0)
    size = 1.0 / float(np.sum(weights**2 / counts))
    freedom = max(1.0, (evidence.freedom + 1.0) * min(1.0, size / float(counts.sum())) - 1.0)
    return replace(evidence, n=math.floor(size), freedom=freedom)


def _rows(
    scores: Sequence[float], strata: Sequence[str], shares: Mapping[str, float]
) -> tuple[np.ndarray, np.ndarray, tuple[float, tuple[str, ...]]]:
    values = np.asarray(scores, dtype=float)
    if values.size != len(strata):
        raise InvalidInput("every score needs its stratum", field="strata")
    if not ((values >= 0.0) & (values <= 1.0)).all():
        raise InvalidInput("scores must lie in [0, 1]", field="scores")
    whole = sum(shares.values())
    if whole <= 0.0 or any(share < 0.0 for share in shares.values()):
        raise InvalidInput("shares of traffic must be positive", field="shares")
    present = [name for name in shares if shares[name] > 0.0 and name in set(strata)]
    if not present:
        raise InvalidInput("no item stands for any of the traffic", field="shares")
    place = {name: index for index, name in enumerate(present)}
    rows = np.zeros((values.size, 2 * len(present)))
    for index, name in enumerate(strata):
        if name in place:
            rows[index, place[name]] = values[index]
            rows[index, len(present) + place[name]] = 1.0
    missing = tuple(sorted(name for name in shares if shares[name] > 0.0 and name not in place))
    weights = np.array([shares[name] / whole for name in present])
    return rows, weights / weights.sum(), (sum(shares[name] for name in missing) / whole, missing)
