"""Differences between two arms on the same items, with clusters."""

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

from scipy.special import bdtr, stdtr, stdtrit

from libs.contracts.errors import InvalidInput
from libs.contracts.events import Estimate
from libs.statistics import tango

_DESIGN_LIMIT = 1e6


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Mean of per-item differences d in [-1, 1] with what its intervals need.

    `standard_error` is clustered, with the factor C / (C - 1) (Miller 2024, arXiv 2411.00640, with the small-sample
    factor); t has C - 1 degrees of freedom. Where every d is -1, 0 or 1, intervals and p-values are the more cautious
    of that t and of Tango's score method on the effective sample: t alone is far too narrow with few discordant items
    and has no width at all with none. For other scores of zero variance Hoeffding's bound stands in.
    """

    mean: float
    standard_error: float
    n: int
    clusters: int
    wins: int
    losses: int
    ternary: bool
    design_effect: float

    def interval(self, confidence: float = 0.95) -> Estimate:
        """Two-sided interval; [-1, 1] while there are fewer than two clusters."""
        low, high = self._bounds((1.0 - confidence) / 2.0)
        return Estimate(value=self.mean, low=low, high=high, n=self.n)

    def p_greater(self, bound: float) -> float:
        """One-sided p-value of H0: mean <= bound."""
        if self.clusters < 2:
            return 1.0
        parts = []
        if self.standard_error > 0.0:
            parts.append(float(stdtr(self.clusters - 1, -(self.mean - bound) / self.standard_error)))
        if self.ternary:
            parts.append(NormalDist().cdf(-self._score(bound)))
        elif not parts:
            parts.append(math.exp(-self.clusters * max(0.0, self.mean - bound) ** 2 / 2.0))
        return max(parts)

    def p_less(self, bound: float) -> float:
        """One-sided p-value of H0: mean >= bound."""
        return self.mirrored().p_greater(-bound)

    def mirrored(self) -> "PairedDifference":
        """The same comparison seen from the other arm."""
        return PairedDifference(
            -self.mean,
            self.standard_error,
            self.n,
            self.clusters,
            self.losses,
            self.wins,
            self.ternary,
            self.design_effect,
        )

    def _bounds(self, tail: float) -> tuple[float, float]:
        if self.clusters < 2:
            return -1.0, 1.0
        lows, highs = [], []
        if self.standard_error > 0.0:
            reach = float(stdtrit(self.clusters - 1, 1.0 - tail)) * self.standard_error
            lows.append(self.mean - reach)
            highs.append(self.mean + reach)
        if self.ternary:
            z = NormalDist().inv_cdf(1.0 - tail)
            low, high = tango.interval(*self._effective(), z)
            lows.append(low)
            highs.append(high)
        elif not lows:
            reach = math.sqrt(2.0 * math.log(1.0 / tail) / self.clusters)
            lows.append(self.mean - reach)
            highs.append(self.mean + reach)
        return max(-1.0, min(lows)), min(1.0, max(highs))

    def _score(self, bound: float) -> float:
        return tango.score(*self._effective(), bound)

    def _effective(self) -> tuple[float, float, float]:
        return self.wins / self.design_effect, self.losses / self.design_effect, self.n / self.design_effect


def paired_difference(
    treatment: Sequence[float], control: Sequence[float], clusters: Sequence[Hashable] | None = None
) -> PairedDifference:
    """Compare two arms item by item; `treatment[i]` and `control[i]` in [0, 1] are scores of the same item.

    `clusters[i]` names what item i shares with others (document, customer, template); by default each stands alone.
    """
    n = len(treatment)
    if len(control) != n or (clusters is not None and len(clusters) != n):
        raise InvalidInput("both arms and the clusters must cover the same items", field="control")
    if any(not 0.0 <= score <= 1.0 for score in (*treatment, *control)):
        raise InvalidInput("scores must lie in [0, 1]", field="treatment")
    if n == 0:
        return PairedDifference(0.0, 0.0, 0, 0, 0, 0, True, 1.0)
    differences = [left - right for left, right in zip(treatment, control, strict=True)]
    names: Sequence[Hashable] = range(n) if clusters is None else clusters
    counts = Counter(differences)
    ternary = set(counts) <= {-1.0, 0.0, 1.0}
    error, groups = clustered_error(differences, names)
    mean = fmean(differences)
    return PairedDifference(
        mean=mean,
        standard_error=error,
        n=n,
        clusters=groups,
        wins=sum(count for value, count in counts.items() if value > 0),
        losses=sum(count for value, count in counts.items() if value < 0),
        ternary=ternary,
        design_effect=design_effect(differences, names),
    )


def clustered_error(values: Sequence[float], clusters: Sequence[Hashable]) -> tuple[float, int]:
    """Standard error of the mean with clusters and the number of clusters; 0 with fewer than two clusters."""
    mean = fmean(values)
    sums: dict[Hashable, float] = defaultdict(float)
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] += value - mean
    count = len(sums)
    if count < 2:
        return 0.0, count
    variance = count / (count - 1) * math.fsum(total * total for total in sums.values()) / len(values) ** 2
    return math.sqrt(variance), count


def design_effect(values: Sequence[float], clusters: Sequence[Hashable]) -> float:
    """How many times clusters inflate the variance of the mean, at least 1.

    Where the values do not vary it cannot be estimated and is n / C: within a cluster they may all be one fact.
    """
    n = len(values)
    count = len(set(clusters))
    if n == 0 or count == 0:
        return 1.0
    alone, _ = clustered_error(values, range(n))
    if alone == 0.0:
        return n / count
    together, _ = clustered_error(values, clusters)
    return min(_DESIGN_LIMIT, max(1.0, (together / alone) ** 2))


def mcnemar(wins: int, losses: int) -> float:
    """Exact two-sided McNemar p-value: a sign test on the discordant items (McNemar 1947)."""
    if wins < 0 or losses < 0:
        raise InvalidInput("counts of discordant items cannot be negative", field="wins")
    n = wins + losses
    return 1.0 if n == 0 else min(1.0, 2.0 * float(bdtr(min(wins, losses), n, 0.5)))
