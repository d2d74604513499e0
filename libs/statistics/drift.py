"""How far traffic has moved from a reference, by effect size: with enough requests everything is significant."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from libs.contracts.errors import InvalidInput
from libs.contracts.estimates import Estimate, Verdict
from libs.statistics.special import noncentral_bounds

MODERATE, LARGE = 0.1, 0.25
"""Population stability index below the first is no drift to speak of, above the second one to act on (Siddiqi 2006,
Credit Risk Scorecards, chapter 10; Yurdakul & Naranjo 2020, Journal of Risk Model Validation 14:89)."""

_DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Drift:
    """Population stability index and Jensen-Shannon distance (base 2, 0 to 1) between two distributions over bins.

    Both are corrected for the drift that two samples of these sizes show without any. The verdict is on the index: fail
    where its whole interval lies above the threshold, pass where it lies below, else inconclusive.
    """

    index: Estimate
    distance: Estimate
    verdict: Verdict
    threshold: float


def drift(
    reference: Sequence[int],
    current: Sequence[int],
    *,
    threshold: float = MODERATE,
    confidence: float = 0.95,
    seed: int = 0,
) -> Drift:
    """Compare counts over the same bins (lengths, languages, categories, clusters of embeddings).

    The index (Siddiqi 2006) is the symmetrised Kullback-Leibler divergence (Jeffreys 1946) of shares with half a count
    added to each bin (Krichevsky & Trofimov 1981), so that an empty bin counts as rare, not as infinitely far. Its bias
    (Yurdakul & Naranjo 2020: B - 1 times 1 / n + 1 / m without drift) and its interval come from the parametric
    bootstrap, the interval reflected about the estimate (Davison & Hinkley 1997, section 5.2). Near no drift the
    distribution is far from symmetric, that of a noncentral chi-square over n m / (n + m); the interval takes in the
    one that inverts it (Steiger 2004, Psychological Methods 9:164).
    """
    before, now = np.asarray(reference, dtype=float), np.asarray(current, dtype=float)
    if before.ndim != 1 or before.shape != now.shape or before.size < 2:
        raise InvalidInput("counts must be two sequences over the same two bins or more", field="current")
    if (before < 0).any() or (now < 0).any():
        raise InvalidInput("counts cannot be negative", field="current")
    n = int(min(before.sum(), now.sum()))
    if n == 0:
        nothing = Estimate(value=0.0, low=0.0, high=1.0, n=0)
        return Drift(nothing, nothing, Verdict.INCONCLUSIVE, threshold)
    rng = np.random.default_rng(seed)
    left, right = (_resample(rng, counts) for counts in (before, now))
    plain = float(_index(_shares(before), _shares(now)))
    size = float(before.sum() * now.sum() / (before.sum() + now.sum()))
    near = noncentral_bounds(plain * size, before.size - 1, confidence)
    # For distributions this close the divergence in bits is an eighth of the index in nats.
    index = _corrected(plain, _index(_shares(left), _shares(right)), confidence, n, [bound / size for bound in near])
    bits = 8.0 * math.log(2.0) * size
    near = noncentral_bounds(float(_distance(before, now)) * bits, before.size - 1, confidence)
    distance = _corrected(
        float(_distance(before, now)), _distance(left, right), confidence, n, [bound / bits for bound in near]
    )
    return Drift(index, distance, _verdict(index, threshold), threshold)


def bin_edges(values: Sequence[float], bins: int = 10) -> tuple[float, ...]:
    """Inner edges that cut a reference sample into about equally full bins; fewer where values repeat."""
    if bins < 2 or not values:
        raise InvalidInput("edges need two bins or more and a reference", field="bins")
    inner = np.quantile(np.asarray(values, dtype=float), np.linspace(0.0, 1.0, bins + 1)[1:-1], method="inverted_cdf")
    return tuple(float(edge) for edge in np.unique(inner))


def counts_in(values: Sequence[float], edges: Sequence[float]) -> tuple[int, ...]:
    """How many values lie in each of the len(edges) + 1 bins; an edge belongs to the bin below it."""
    places = np.searchsorted(np.asarray(edges), np.asarray(values, dtype=float), side="left")
    return tuple(int(count) for count in np.bincount(places, minlength=len(edges) + 1))


def _verdict(index: Estimate, threshold: float) -> Verdict:
    if index.low > threshold:
        return Verdict.FAIL
    return Verdict.PASS if index.high < threshold else Verdict.INCONCLUSIVE


def _resample(rng: np.random.Generator, counts: NDArray[np.float64]) -> NDArray[np.float64]:
    drawn: NDArray[np.float64] = rng.multinomial(int(counts.sum()), counts / counts.sum(), size=_DRAWS).astype(float)
    return drawn


def _shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = (counts + 0.5) / (counts.sum(axis=-1, keepdims=True) + counts.shape[-1] / 2.0)
    return shares


def _index(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = ((q - p) * np.log(q / p)).sum(axis=-1)
    return found


def _distance(before: NDArray[np.float64], now: NDArray[np.float64]) -> NDArray[np.float64]:
    """Jensen-Shannon divergence (Lin 1991, IEEE Transactions on Information Theory 37:145)."""
    p, q = (counts / counts.sum(axis=-1, keepdims=True) for counts in (before, now))
    middle = (p + q) / 2.0

    def parts(share: NDArray[np.float64]) -> NDArray[np.float64]:
        ratio = np.divide(share, middle, out=np.ones_like(middle), where=share > 0.0)
        found: NDArray[np.float64] = (share * np.log2(ratio)).sum(axis=-1)
        return found

    return np.asarray((parts(p) + parts(q)) / 2.0)


def _corrected(
    plain: float, replicates: NDArray[np.float64], confidence: float, n: int, near: Sequence[float]
) -> Estimate:
    low, high = (float(np.quantile(replicates, (1.0 + side * confidence) / 2.0)) for side in (-1.0, 1.0))
    value = max(0.0, 2.0 * plain - float(replicates.mean()))
    return Estimate(
        value=value,
        low=max(0.0, min(value, near[0], 2.0 * plain - high)),
        high=max(value, near[1], 2.0 * plain - low),
        n=n,
    )
