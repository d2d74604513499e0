"""Tango's score method for the difference of two paired proportions (Tango 1998, Statistics in Medicine 17:891)."""

import math

_STEPS = 60


def score(wins: float, losses: float, n: float, bound: float) -> float:
    """Score statistic of H0: difference = bound, standard normal under it; positive when the data lie above.

    `wins` and `losses` count discordant items, `n` all items; fractions stand for an effective sample.
    """
    if n <= 0.0:
        return 0.0
    numerator = wins - losses - n * bound
    # Maximum-likelihood estimate of the probability of a loss under the null.
    a = 2.0 * n
    b = -wins - losses + (2.0 * n - wins + losses) * bound
    c = -losses * bound * (1.0 - bound)
    loss = max(0.0, (math.sqrt(max(0.0, b * b - 4.0 * a * c)) - b) / (2.0 * a))
    variance = n * (2.0 * loss + bound * (1.0 - bound))
    if variance <= 0.0:
        return 0.0 if numerator == 0.0 else math.copysign(math.inf, numerator)
    return numerator / math.sqrt(variance)


def interval(wins: float, losses: float, n: float, z: float) -> tuple[float, float]:
    """All differences whose score lies within z; found by bisection, the score falls as the difference rises."""
    if n <= 0.0:
        return -1.0, 1.0
    middle = (wins - losses) / n
    return -_edge(losses, wins, n, z, -middle), _edge(wins, losses, n, z, middle)


def _edge(wins: float, losses: float, n: float, z: float, start: float) -> float:
    inside, outside = start, 1.0
    for _ in range(_STEPS):
        middle = (inside + outside) / 2.0
        if score(wins, losses, n, middle) > -z:
            inside = middle
        else:
            outside = middle
    return outside
