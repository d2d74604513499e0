"""Differences between two arms on the same items, with clusters."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from libs.contracts.errors import InvalidInput
from libs.contracts.estimates import Estimate
from libs.statistics import tango
from libs.statistics.clusters import ClusteredMean, clustered_mean
from libs.statistics.special import binomial_cdf, student_cdf, student_quantile


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Mean of per-item differences d in [-1, 1] with what its intervals need.

    Intervals and p-values are the more cautious of two: Student's t on the cluster-robust error (libs.statistics
    .clusters), and Tango's score method on the effective sample. The t alone is far too narrow with few differing items
    and has no width at all with none. Graded scores are matched to the three-valued sample of the same mean and mean
    square: `gained` and `lost` items out of n that differ by `step` each; for right-or-wrong scores these are the wins,
    the losses and 1. Graded scores may hide rare large losses behind many small gains: to their error comes that of
    half an item at either end of the scale that was not seen (`unseen`), as Agresti & Min (2005, Statistics in
    Medicine 24:729) add half a pair to each cell; what was not seen may lie clustered too.
    """

    mean: float
    standard_error: float
    n: int
    clusters: int
    freedom: float
    wins: int
    losses: int
    gained: float
    lost: float
    step: float
    design_effect: float
    unseen: float

    def interval(self, confidence: float = 0.95) -> Estimate:
        """Two-sided interval; [-1, 1] while there are fewer than two clusters."""
        if not 0.0 < confidence < 1.0:
            raise InvalidInput("confidence must lie strictly between 0 and 1", field="confidence")
        low, high = self._bounds((1.0 - confidence) / 2.0)
        return Estimate(value=self.mean, low=low, high=high, n=self.n)

    def p_greater(self, bound: float) -> float:
        """One-sided p-value of H0: mean <= bound."""
        if self.clusters < 2:
            return 1.0
        parts = [NormalDist().cdf(-self._score(bound))]
        if self._error > 0.0:
            parts.append(student_cdf(-(self.mean - bound) / self._error, self.freedom))
        return max(parts)

    def p_less(self, bound: float) -> float:
        """One-sided p-value of H0: mean >= bound."""
        return self.mirrored().p_greater(-bound)

    def mirrored(self) -> "PairedDifference":
        """The same comparison seen from the other arm."""
        return replace(self, mean=-self.mean, wins=self.losses, losses=self.wins, gained=self.lost, lost=self.gained)

    def scaled(self, factor: float) -> "PairedDifference":
        """What `factor` times as many items in as many more clusters would show if they were like these."""
        return replace(
            self,
            standard_error=self.standard_error / math.sqrt(factor),
            n=round(self.n * factor),
            clusters=max(1, round(self.clusters * factor)),
            freedom=max(1.0, (self.freedom + 1.0) * factor - 1.0),
            wins=round(self.wins * factor),
            losses=round(self.losses * factor),
            gained=self.gained * factor,
            lost=self.lost * factor,
            unseen=self.unseen / factor,
        )

    def describe(self) -> str:
        """The sample in words."""
        return f"{self.n} items in {self.clusters} groups, {self.wins} won, {self.losses} lost"

    def _bounds(self, tail: float) -> tuple[float, float]:
        if self.clusters < 2:
            return -1.0, 1.0
        low, high = (self.step * edge for edge in tango.interval(*self._effective(), NormalDist().inv_cdf(1.0 - tail)))
        reach = student_quantile(1.0 - tail, self.freedom) * self._error if self._error > 0.0 else 0.0
        return max(-1.0, min(low, self.mean - reach)), min(1.0, max(high, self.mean + reach))

    @property
    def _error(self) -> float:
        return math.hypot(self.standard_error, self.unseen)

    def _score(self, bound: float) -> float:
        scaled = bound / self.step
        if not -1.0 < scaled < 1.0:
            return math.copysign(math.inf, -scaled)
        return tango.score(*self._effective(), scaled)

    def _effective(self) -> tuple[float, float, float]:
        return self.gained / self.design_effect, self.lost / self.design_effect, self.n / self.design_effect


def paired_difference(
    treatment: Sequence[float], control: Sequence[float], clusters: Sequence[Hashable] | None = None
) -> PairedDifference:
    """Compare two arms item by item; `treatment[i]` and `control[i]` in [0, 1] are scores of the same item.

    `clusters[i]` names what item i shares with others (document, customer, template); by default each stands alone.
    """
    left, right = np.asarray(treatment, dtype=float), np.asarray(control, dtype=float)
    if left.ndim != 1 or left.shape != right.shape or (clusters is not None and len(clusters) != left.size):
        raise InvalidInput("both arms and the clusters must cover the same items", field="control")
    for name, scores in (("treatment", left), ("control", right)):
        if not ((scores >= 0.0) & (scores <= 1.0)).all():
            raise InvalidInput("scores must lie in [0, 1]", field=name)
    found = clustered_mean(left - right, clusters)
    return _difference(left - right, found)


def _difference(differences: NDArray[np.float64], found: ClusteredMean) -> PairedDifference:
    squares, size = float(np.sum(differences**2)), float(np.sum(np.abs(differences)))
    step = squares / size if size > 0.0 else 1.0
    graded = bool(np.any((differences != 0.0) & (np.abs(differences) != 1.0)))
    return PairedDifference(
        mean=found.mean,
        standard_error=found.standard_error,
        n=found.n,
        clusters=found.clusters,
        freedom=found.freedom,
        wins=int(np.count_nonzero(differences > 0.0)),
        losses=int(np.count_nonzero(differences < 0.0)),
        gained=float(np.sum(differences[differences > 0.0])) / step,
        lost=float(-np.sum(differences[differences < 0.0])) / step,
        step=step,
        design_effect=found.design_effect,
        unseen=max(found.design_effect, math.sqrt((1.0 + found.company) / 2.0)) / found.n if graded else 0.0,
    )


def mcnemar(wins: int, losses: int) -> float:
    """Exact two-sided McNemar p-value: a sign test on the discordant items (McNemar 1947, Psychometrika 12:153)."""
    if wins < 0 or losses < 0:
        raise InvalidInput("counts of discordant items cannot be negative", field="wins")
    n = wins + losses
    return 1.0 if n == 0 else min(1.0, 2.0 * binomial_cdf(min(wins, losses), n, 0.5))
