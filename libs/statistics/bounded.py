"""Anytime-valid evidence on the mean of scores in [-1, 1], by betting."""

import math
from collections.abc import Mapping

from libs.contracts.errors import InvalidInput
from libs.statistics.evidence import log_mean

BETS = (0.03, 0.06, 0.12, 0.25, 0.5, 0.75, 0.9, 0.99)
"""Fractions of the capital put on each observation; evidence is the mean capital over all of them."""

_STEPS = 40


def log_evidence_above(counts: Mapping[float, int], bound: float) -> float:
    """Log e-value of H0: mean <= bound, from how often each score in [-1, 1] was seen.

    The capital of a gambler who stakes a fixed fraction on every score, averaged over fractions (Waudby-Smith & Ramdas
    2024, arXiv 2010.09686). Fixed fractions make it a function of counts, so that it can be recomputed from a ledger in
    any order. For scores whose conditional mean is at most `bound` it is an e-process whatever their distribution.
    """
    if not -1.0 <= bound < 1.0:
        raise InvalidInput(f"the bound {bound} must lie in [-1, 1)", field="bound")
    if any(not -1.0 <= score <= 1.0 for score in counts):
        raise InvalidInput("scores must lie in [-1, 1]", field="counts")
    # The same stakes for every bound up to 0 make the evidence fall as the bound rises: evidence of superiority is then
    # always evidence of non-inferiority too.
    scale = 1.0 / (1.0 + max(0.0, bound))
    return log_mean(
        [
            math.fsum(count * math.log1p(bet * scale * (score - bound)) for score, count in counts.items() if count)
            for bet in BETS
        ]
    )


def log_evidence_below(counts: Mapping[float, int], bound: float) -> float:
    """Log e-value of H0: mean >= bound."""
    return log_evidence_above({-score: count for score, count in counts.items()}, -bound)


def confidence_sequence(counts: Mapping[float, int], alpha: float = 0.05) -> tuple[float, float]:
    """Interval that holds the mean at all times at once with probability at least 1 - alpha; [-1, 1] without scores."""
    if not any(counts.values()):
        return -1.0, 1.0
    needed = math.log(2.0 / alpha)
    return _lowest(counts, needed), -_lowest({-score: count for score, count in counts.items()}, needed)


def _lowest(counts: Mapping[float, int], needed: float) -> float:
    total = sum(counts.values())
    mean = math.fsum(score * count for score, count in counts.items()) / total
    if log_evidence_above(counts, -1.0) < needed:
        return -1.0
    low, high = -1.0, min(mean, 1.0 - 1e-9)
    for _ in range(_STEPS):
        middle = (low + high) / 2.0
        if log_evidence_above(counts, middle) >= needed:
            low = middle
        else:
            high = middle
    return low
