"""Win rates of one arm over another, and what may be called better, strong or proven strong."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from libs.contracts.errors import InvalidInput
from libs.contracts.estimates import Estimate
from libs.statistics.bounded import confidence_sequence, log_evidence_above
from libs.statistics.clusters import cluster_codes
from libs.statistics.evidence import plain
from libs.statistics.means import bounded_mean
from libs.statistics.votes import sign_test

DECISIVE_NEEDED = 30
STRONG = 0.7


class Standing(StrEnum):
    """What a win rate shows, from nothing to most; each holds however often one looked."""

    TOO_FEW = "too few votes"
    WORSE = "worse"
    UNDECIDED = "undecided"
    BETTER = "better"
    STRONG = "strong"
    PROVEN_STRONG = "proven strong"


@dataclass(frozen=True, slots=True)
class WinRate:
    """(W + T / 2) / N over items, ties counting half.

    `fixed` is its interval for one look at a number of items fixed beforehand (clustered), `always` the confidence
    sequence that holds at all times; the standing and `e_value` (against "not better") rest on the second.
    `sign_p_value` is that of the exact sign test on decisive items.
    """

    fixed: Estimate
    always: Estimate
    wins: int
    ties: int
    losses: int
    standing: Standing
    e_value: float
    sign_p_value: float


def win_rate(scores: Sequence[float], clusters: Sequence[Hashable] | None = None, *, alpha: float = 0.05) -> WinRate:
    """Win rate from one score per item: 1 won, 0 lost, 1/2 a tie, or between where several raters were averaged.

    Better: the rate exceeds 1/2. Strong: better, and observed at 70 % or more. Proven strong: the rate itself exceeds
    70 %. Each claim is made at evidence 1 / alpha (libs.statistics.bounded), so that peeking at every vote keeps its
    error rate; below 30 decisive items none is made. Items of one cluster count together as their mean, since what the
    first shows the next is not independent of it.
    """
    values = np.asarray(scores, dtype=float)
    if not ((values >= 0.0) & (values <= 1.0)).all():
        raise InvalidInput("scores must lie in [0, 1]", field="scores")
    wins, losses = int(np.count_nonzero(values > 0.5)), int(np.count_nonzero(values < 0.5))
    fixed = bounded_mean(values.tolist(), clusters).interval(1.0 - alpha)
    counts = _one_per_cluster(values.tolist(), clusters)
    low, high = confidence_sequence(counts, alpha)
    rate = sum(score * count for score, count in counts.items()) / max(1, sum(counts.values()))
    log_better = log_evidence_above(counts, 0.0)
    return WinRate(
        fixed=fixed,
        always=Estimate(value=(rate + 1.0) / 2.0, low=(low + 1.0) / 2.0, high=(high + 1.0) / 2.0, n=len(scores)),
        wins=wins,
        ties=len(scores) - wins - losses,
        losses=losses,
        standing=_standing(counts, (rate + 1.0) / 2.0, wins + losses, alpha),
        e_value=plain(log_better),
        sign_p_value=sign_test(wins, losses),
    )


def _standing(counts: dict[float, int], rate: float, decisive: int, alpha: float) -> Standing:
    if decisive < DECISIVE_NEEDED:
        return Standing.TOO_FEW
    if _shown(counts, 2.0 * STRONG - 1.0, alpha):
        return Standing.PROVEN_STRONG
    if _shown(counts, 0.0, alpha):
        return Standing.STRONG if rate >= STRONG else Standing.BETTER
    return Standing.WORSE if _shown({-score: n for score, n in counts.items()}, 0.0, alpha) else Standing.UNDECIDED


def _shown(counts: dict[float, int], bound: float, alpha: float) -> bool:
    return plain(log_evidence_above(counts, bound)) >= 1.0 / alpha


def _one_per_cluster(scores: Sequence[float], clusters: Sequence[Hashable] | None) -> dict[float, int]:
    """How often each score occurs, on the scale from -1 to 1, one for each cluster."""
    values = np.asarray(scores, dtype=float)
    if clusters is not None and values.size:
        codes = cluster_codes(clusters, values.size)
        values = np.bincount(codes, values) / np.bincount(codes)
    return dict(Counter(round(2.0 * float(value) - 1.0, 9) for value in values))
