"""Anytime-valid evidence from decisive votes, and the exact sign test for a number of votes fixed beforehand."""

import math

from libs.contracts.errors import InvalidInput
from libs.statistics.special import beta_cdf, binomial_cdf

_STEPS = 60


def log_evidence_differs(wins: int, losses: int, share: float = 0.5) -> float:
    """Log e-value against a probability of winning of `share`: the beta-binomial mixture with a uniform prior (Robbins
    1970; Howard et al. 2021, arXiv 1810.08240, section 3.2). Ties do not enter. A function of counts alone, valid
    however often it is looked at.
    """
    _check(wins, losses, share)
    return _log_beta(wins + 1, losses + 1) - _log_null(wins, losses, share)


def log_evidence_wins(wins: int, losses: int, share: float = 0.5) -> float:
    """Log e-value against a probability of at most `share`: the same mixture over (share, 1] only, so that losses are
    never evidence. It holds for the composite null since every likelihood ratio in it rises with wins.
    """
    _check(wins, losses, share)
    upper = beta_cdf(1.0 - share, losses + 1, wins + 1)
    # Deep in the tail the incomplete beta underflows; its leading term there is a lower bound, hence still an e-value.
    part = (
        math.log(upper)
        if upper > 0.0
        else wins * math.log(share)
        + (losses + 1) * math.log1p(-share)
        - _log_beta(wins + 1, losses + 1)
        - math.log(losses + 1)
    )
    return _log_beta(wins + 1, losses + 1) + part - math.log1p(-share) - _log_null(wins, losses, share)


def vote_sequence(wins: int, losses: int, alpha: float = 0.05) -> tuple[float, float]:
    """Probabilities of winning not ruled out: holds the true one at all times at once with probability 1 - alpha.

    All shares whose `log_evidence_differs` stays below log(1 / alpha): an interval, since that is convex in the share.
    """
    _check(wins, losses, 0.5)
    if wins + losses == 0:
        return 0.0, 1.0
    return _edge(wins, losses, alpha), 1.0 - _edge(losses, wins, alpha)


def sign_test(wins: int, losses: int) -> float:
    """Exact one-sided p-value of H0: a decisive vote is won with probability at most 1/2 (Arbuthnot 1710; Dixon & Mood
    1946, JASA 41:557). For one look at a number of votes fixed beforehand; peeking takes `log_evidence_wins`.
    """
    _check(wins, losses, 0.5)
    return 1.0 if wins == 0 else binomial_cdf(losses, wins + losses, 0.5)


def _edge(wins: int, losses: int, alpha: float) -> float:
    if wins == 0:
        return 0.0
    out, within = 0.0, wins / (wins + losses)
    for _ in range(_STEPS):
        middle = (out + within) / 2.0
        if log_evidence_differs(wins, losses, middle) >= -math.log(alpha):
            out = middle
        else:
            within = middle
    return out


def _log_null(wins: int, losses: int, share: float) -> float:
    return wins * math.log(share) + losses * math.log1p(-share)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _check(wins: int, losses: int, share: float) -> None:
    if wins < 0 or losses < 0:
        raise InvalidInput("votes cannot be negative", field="wins")
    if not 0.0 < share < 1.0:
        raise InvalidInput(f"a share of {share} leaves nothing to test", field="share")
