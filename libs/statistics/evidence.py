"""Shared arithmetic of e-processes: evidence that may be looked at after every observation.

An e-process E is a non-negative process whose expectation under the null is at most 1 at any stopping time, so that by
Ville's inequality P(E ever reaches 1 / alpha) <= alpha (Ramdas, Grünwald, Vovk & Shafer 2023, arXiv 2210.01948).
All values here are natural logarithms: evidence outgrows floating point.
"""

import math
from collections.abc import Sequence

LARGEST = 1e300
"""Evidence as a plain number is cut off here; 1e300 is no different from certainty."""


def log_mean(logs: Sequence[float]) -> float:
    """Logarithm of the mean of exp(logs): a mixture with equal weights."""
    top = max(logs)
    if top == -math.inf:
        return -math.inf
    return top + math.log(math.fsum(math.exp(value - top) for value in logs) / len(logs))


def plain(log_evidence: float) -> float:
    """exp, cut off so that it stays a finite number of JSON."""
    return LARGEST if log_evidence > math.log(LARGEST) else math.exp(log_evidence)


def geometric_grid(low: float, high: float, points: int) -> tuple[float, ...]:
    """`points` values from low to high, each the same factor above the one before."""
    ratio = (high / low) ** (1.0 / (points - 1))
    return tuple(low * ratio**index for index in range(points))
