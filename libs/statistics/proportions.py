"""Intervals and tests for one proportion."""

import math
from statistics import NormalDist

from libs.contracts.errors import InvalidInput
from libs.contracts.estimates import Estimate


def normal_quantile(confidence: float) -> float:
    """Two-sided standard normal quantile: 1.96 for 0.95."""
    if not 0.0 < confidence < 1.0:
        raise InvalidInput("confidence must lie strictly between 0 and 1", field="confidence")
    return NormalDist().inv_cdf(0.5 + confidence / 2.0)


def wilson(successes: float, n: int, confidence: float = 0.95, *, design_effect: float = 1.0) -> Estimate:
    """Wilson score interval of a proportion (Wilson 1927; Brown, Cai & DasGupta 2001 on why never Wald).

    Args:
        successes: Count in [0, n]; a fraction where items count in part.
        n: Items; 0 gives the uninformative [0, 1].
        confidence: Two-sided coverage.
        design_effect: Variance inflation by clusters, at least 1; the interval is that of n / design_effect items.
    """
    if not 0 <= successes <= n:
        raise InvalidInput(f"{successes} successes of {n} is no proportion", field="successes")
    if n == 0:
        return Estimate(value=0.0, low=0.0, high=1.0, n=0)
    z = normal_quantile(confidence)
    size = n / max(1.0, design_effect)
    p = successes / n
    centre = (p + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * math.sqrt(p * (1 - p) / size + z * z / (4 * size * size))
    # Rounding must not push the bound of an unanimous sample past the sample itself.
    low = 0.0 if successes == 0 else min(p, max(0.0, centre - half))
    high = 1.0 if successes == n else max(p, min(1.0, centre + half))
    return Estimate(value=p, low=low, high=high, n=n)


def score_p_value(successes: float, n: int, bound: float, *, design_effect: float = 1.0) -> float:
    """One-sided p-value of H0: p <= bound by the score test, the test that Wilson's interval inverts."""
    if n == 0 or bound >= 1.0:
        return 1.0
    p = successes / n
    if bound <= 0.0:
        return 0.0 if p > 0.0 else 1.0
    z = (p - bound) / math.sqrt(bound * (1 - bound) / (n / max(1.0, design_effect)))
    return NormalDist().cdf(-z)
