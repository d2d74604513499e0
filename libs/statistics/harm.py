"""Anytime-valid evidence that a challenger under randomised traffic does harm more often than the incumbent."""

import math
from collections.abc import Callable, Mapping
from math import log

from libs.contracts.errors import InvalidInput
from libs.statistics.evidence import geometric_grid, log_mean

RELATIVE_RISKS = geometric_grid(1.2, 20.0, 24)
"""Alternatives, as multiples of the relative risk that is tolerated."""

BadUnits = Mapping[float, tuple[int, int]]
"""Units that went bad, (the challenger's, the incumbent's), by the challenger's share rho when they were assigned."""

_WIDEST = 1e6


class HarmProcess:
    """E-process of H0: relative risk of a bad unit <= `harm_ratio` (Lindon & Malek 2022, arXiv 2011.03567).

    Given that a unit went bad, it is the challenger's with probability theta(r) = rho r / (rho r + 1 - rho), where rho
    is the challenger's probability at that unit's assignment and r the relative risk. The base rate drops out, so it
    may drift, and rho may change from unit to unit. The mixture over r costs O(grid) per unit; the composite null holds
    because each factor's expectation rises with r and is 1 at `harm_ratio`.
    """

    __slots__ = ("_logs", "_ratio", "_risks", "bad", "peak")

    def __init__(self, harm_ratio: float = 1.0) -> None:
        if harm_ratio < 1.0:
            raise InvalidInput("the tolerated relative risk is at least 1", field="harm_ratio")
        self._ratio = harm_ratio
        self._risks = tuple(harm_ratio * risk for risk in RELATIVE_RISKS)
        self._logs = [0.0] * len(self._risks)
        self.bad = 0
        self.peak = 0.0
        """Highest log evidence so far: an alarm once raised stays valid."""

    def update(self, challenger: bool, rho: float) -> float:
        """Take in one bad unit; returns the log evidence. A unit whose arm was certain (rho 0 or 1) says nothing."""
        if not 0.0 <= rho <= 1.0:
            raise InvalidInput(f"{rho} is no probability", field="rho")
        self.bad += 1
        if 0.0 < rho < 1.0:
            null = share_of_bad(self._ratio, rho)
            for index, risk in enumerate(self._risks):
                theta = share_of_bad(risk, rho)
                self._logs[index] += log(theta / null) if challenger else log((1.0 - theta) / (1.0 - null))
        value = self.log_evidence
        self.peak = max(self.peak, value)
        return value

    @property
    def log_evidence(self) -> float:
        """Log e-value now."""
        return log_mean(self._logs)


def share_of_bad(relative_risk: float, rho: float) -> float:
    """Probability that a bad unit is the challenger's, at the challenger's traffic share rho."""
    return rho * relative_risk / (rho * relative_risk + 1.0 - rho)


def log_evidence_harm(bad: BadUnits, harm_ratio: float = 1.0) -> float:
    """Log e-value of H0: relative risk <= `harm_ratio`; what HarmProcess says after the same units in any order."""
    return log_mean([_log_likelihood_ratio(bad, harm_ratio * risk, harm_ratio) for risk in RELATIVE_RISKS])


def log_evidence_safe(bad: BadUnits, harm_ratio: float) -> float:
    """Log e-value of H0: relative risk >= `harm_ratio`, with the hypotheses of Lindon & Malek exchanged: what shows
    that a challenger does less harm than that, where "no alarm" shows nothing.
    """
    return log_mean([_log_likelihood_ratio(bad, harm_ratio / risk, harm_ratio) for risk in RELATIVE_RISKS])


def risk_interval(bad: BadUnits, alpha: float = 0.05) -> tuple[float, float]:
    """Relative risks not ruled out: holds the true one at all times at once with probability at least 1 - alpha.

    Both e-processes turned round, each at alpha / 2; they are monotone in the ratio, so that the set is an interval.
    Between 1e-6 and 1e6, which stand for no limit.
    """
    needed = log(2.0 / alpha)
    return (
        _crossing(lambda ratio: log_evidence_harm(bad, ratio) >= needed, 1.0 / _WIDEST, _WIDEST),
        _crossing(lambda ratio: log_evidence_safe(bad, ratio) >= needed, _WIDEST, 1.0 / _WIDEST),
    )


def _log_likelihood_ratio(bad: BadUnits, risk: float, null: float) -> float:
    terms = []
    for rho, (challengers, incumbents) in bad.items():
        if not 0.0 <= rho <= 1.0 or challengers < 0 or incumbents < 0:
            raise InvalidInput(f"{challengers} and {incumbents} bad units at a share of {rho}", field="bad")
        if 0.0 < rho < 1.0:
            theta, share = share_of_bad(risk, rho), share_of_bad(null, rho)
            terms.append(challengers * log(theta / share) + incumbents * log((1.0 - theta) / (1.0 - share)))
    return math.fsum(terms)


def _crossing(ruled_out: Callable[[float], bool], start: float, end: float) -> float:
    """The last ratio ruled out on the way from `start`, which is ruled out first if any is, to `end`."""
    if not ruled_out(start):
        return start
    near, far = log(start), log(end)
    for _ in range(60):
        middle = (near + far) / 2.0
        near, far = (middle, far) if ruled_out(math.exp(middle)) else (near, middle)
    return math.exp(near)
