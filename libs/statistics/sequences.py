"""Confidence sequences: intervals for means and quantiles of any scale that hold at all times at once.

Of scores within limits see libs.statistics.bounded, of votes libs.statistics.votes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from libs.contracts.errors import InvalidInput
from libs.contracts.estimates import Estimate, Verdict
from libs.statistics.votes import log_evidence_wins


def asymptotic_sequence(
    n: int, mean: float, deviation: float, alpha: float = 0.05, *, tuned_at: int = 1000
) -> Estimate | None:
    """Interval for the mean of a scale without ends (tokens, cost), from running n, mean and standard deviation.

    The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024, Annals of Statistics
    52:2613, arXiv 2103.06476, theorem 2.2), narrowest at `tuned_at` observations. It rests on the central limit: its
    error rate is alpha in the limit of a late first look, so that None is returned below 100 observations.
    """
    if deviation < 0.0 or n < 0:
        raise InvalidInput("neither counts nor deviations are negative", field="deviation")
    if n < 100:
        return None
    log_term = -2.0 * math.log(alpha)
    rho2 = (log_term + math.log(log_term + 1.0)) / tuned_at
    grown = n * rho2 + 1.0
    reach = deviation * math.sqrt(2.0 * grown / (n * n * rho2) * math.log(math.sqrt(grown) / alpha))
    return Estimate(value=mean, low=mean - reach, high=mean + reach, n=n)


@dataclass(frozen=True, slots=True)
class QuantileBounds:
    """A sample quantile with limits that hold at all times; -inf or inf while the sample says nothing on that side."""

    value: float
    low: float
    high: float
    n: int

    @property
    def estimate(self) -> Estimate | None:
        """As an estimate, once both limits are numbers."""
        finite = math.isfinite(self.low) and math.isfinite(self.high)
        return Estimate(value=self.value, low=self.low, high=self.high, n=self.n) if finite else None


def quantile_sequence(ordered: Sequence[float], probability: float, alpha: float = 0.05) -> QuantileBounds:
    """Limits for the quantile of `probability`, from all values so far in ascending order.

    Howard & Ramdas (2022, Bernoulli 28:1704, arXiv 1906.09712, section 3; used by Netflix, arXiv 2205.14762) with the
    one-sided beta-binomial mixture: a value is ruled out while too few lie at or below it, or too many below it. Any
    distribution, ties included.
    """
    if not 0.0 < probability < 1.0:
        raise InvalidInput(f"{probability} is no probability of a quantile", field="probability")
    n = len(ordered)
    if n == 0:
        return QuantileBounds(0.0, -math.inf, math.inf, 0)
    if any(left > right for left, right in pairwise(ordered)):
        raise InvalidInput("values must come in ascending order", field="ordered")
    needed = math.log(2.0 / alpha)
    # So many values at or below a point, or fewer, are too few for it to be the quantile; so many below it, too many.
    too_few = _too_few(n, probability, needed)
    too_many = n - _too_few(n, 1.0 - probability, needed)
    return QuantileBounds(
        value=ordered[min(n - 1, math.ceil(probability * n) - 1)],
        low=ordered[too_few] if too_few >= 0 else -math.inf,
        high=ordered[too_many - 1] if too_many <= n else math.inf,
        n=n,
    )


def quantile_verdict(
    treatment: Sequence[float], control: Sequence[float], probability: float, at_most: float, alpha: float = 0.05
) -> tuple[Verdict, str]:
    """Whether a quantile of the treatment (latency, say) is at most `at_most` times the control's, at any look.

    Both ascending and positive. Each wrong verdict has probability at most alpha (two limits at alpha / 2 each).
    """
    ours, theirs = (quantile_sequence(values, probability, alpha) for values in (treatment, control))
    numbers = (
        f"{ours.value:.4g} [{ours.low:.4g}, {ours.high:.4g}] against at most {at_most:g} times "
        f"{theirs.value:.4g} [{theirs.low:.4g}, {theirs.high:.4g}] ({ours.n} and {theirs.n} values)"
    )
    if ours.high <= at_most * theirs.low:
        return Verdict.PASS, f"within the bound: {numbers}"
    if ours.low > at_most * theirs.high:
        return Verdict.FAIL, f"beyond the bound: {numbers}"
    return Verdict.INCONCLUSIVE, f"not decided: {numbers}"


def _too_few(n: int, share: float, needed: float) -> int:
    """Largest count out of n that rules out a probability of at least `share`; -1 where none does."""

    def ruled_out(count: int) -> bool:
        return log_evidence_wins(n - count, count, 1.0 - share) >= needed

    if not ruled_out(0):
        return -1
    out, within = 0, math.floor(share * n) + 1
    while within - out > 1:
        middle = (out + within) // 2
        out, within = (middle, within) if ruled_out(middle) else (out, middle)
    return out
