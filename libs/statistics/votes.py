"""Anytime-valid evidence from decisive votes against a fair coin."""

import math

from scipy.special import betainc, betaln

from libs.contracts.errors import InvalidInput


def log_evidence_differs(wins: int, losses: int) -> float:
    """Log e-value against p = 1/2: the beta-binomial mixture with a uniform prior (Robbins 1970; Howard et al. 2021,
    arXiv 1810.08240). Ties do not enter. A function of counts alone, valid however often it is looked at.
    """
    _check(wins, losses)
    return float(betaln(wins + 1, losses + 1)) + (wins + losses) * math.log(2.0)


def log_evidence_wins(wins: int, losses: int) -> float:
    """Log e-value against p <= 1/2: the same mixture over p in (1/2, 1] only, so losses never count as evidence."""
    _check(wins, losses)
    upper = float(betainc(losses + 1, wins + 1, 0.5))
    # Deep in the tail the incomplete beta underflows; there its leading term is a lower bound, hence still an e-value.
    share = (
        math.log(upper)
        if upper > 0.0
        else -(wins + losses + 1) * math.log(2.0) - float(betaln(wins + 1, losses + 1)) - math.log(losses + 1)
    )
    return math.log(2.0) + float(betaln(wins + 1, losses + 1)) + share + (wins + losses) * math.log(2.0)


def _check(wins: int, losses: int) -> None:
    if wins < 0 or losses < 0:
        raise InvalidInput("votes cannot be negative", field="wins")
