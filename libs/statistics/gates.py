"""Three-valued decisions: evidence inside the bound passes, evidence beyond it fails, anything else is neither."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from libs.contracts.estimates import Estimate, Verdict
from libs.statistics.means import bounded_mean
from libs.statistics.proportions import score_p_value, wilson

MINIMUM_ITEMS = 60
MINIMUM_CLUSTERS = 20
"""Below either no interval here is trusted and every gate is inconclusive. Above both, simulated 95 % intervals cover
at least 93 % (bench/statistics.py); clusters of unequal size count as the number of equal ones that know as much."""

FARTHEST = 1000.0
_POWER = 0.8416212335729143  # normal quantile of 80 %


class Evidence(Protocol):
    """What a gate can judge: a mean or a difference with its intervals and p-values, and itself at another size."""

    @property
    def n(self) -> int:
        """Items."""

    @property
    def freedom(self) -> float:
        """Degrees of freedom of its error: equal clusters less one."""

    def interval(self, confidence: float = ...) -> Estimate:
        """Two-sided interval."""

    def p_greater(self, bound: float) -> float:
        """One-sided p-value of H0: value <= bound."""

    def scaled(self, factor: float) -> Self:
        """What `factor` times as many items like these would show."""

    def describe(self) -> str:
        """The sample in words."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict, its reason in words, the interval it rests on (two-sided, confidence 1 - 2 alpha) and the p-value.

    `more_needed`: where inconclusive, about how many more items would settle it with probability 80 % if they were
    like these; None where the value lies too near the bound to say.
    """

    verdict: Verdict
    reason: str
    estimate: Estimate
    p_value: float
    more_needed: int | None = None


def superiority(difference: Evidence, margin: float = 0.0, alpha: float = 0.05) -> Decision:
    """Pass when the paired difference exceeds `margin`, fail when it is below it; each side has error rate `alpha`."""
    return _decide(difference, margin, alpha, "+")


def non_inferiority(difference: Evidence, margin: float, alpha: float = 0.05) -> Decision:
    """Pass when the paired difference exceeds `-margin`: "not significant" is no evidence of no loss.

    The confidence-interval form of the test (CPMP/EWP/2158/99; Piaggio et al. 2012, JAMA 308:2594).
    """
    return _decide(difference, -margin, alpha, "+")


def floor(successes: int, n: int, at_least: float, alpha: float = 0.05, *, design_effect: float = 1.0) -> Decision:
    """Pass when the proportion exceeds `at_least`, fail when it is below."""
    return _decide(_Proportion(successes, n, design_effect), at_least, alpha, "")


def floor_of_mean(
    values: Sequence[float], at_least: float, alpha: float = 0.05, *, clusters: Sequence[Hashable] | None = None
) -> Decision:
    """Pass when the mean of graded scores in [0, 1] exceeds `at_least`, fail when it is below."""
    return floor_of(bounded_mean(values, clusters), at_least, alpha)


def floor_of(value: Evidence, at_least: float, alpha: float = 0.05) -> Decision:
    """Pass when a mean or a corpus score exceeds `at_least`, fail when it is below."""
    return _decide(value, at_least, alpha, "")


@dataclass(frozen=True, slots=True)
class _Proportion:
    successes: float
    n: int
    design_effect: float

    @property
    def freedom(self) -> float:
        return self.n / max(1.0, self.design_effect) - 1.0

    def interval(self, confidence: float = 0.95) -> Estimate:
        return wilson(self.successes, self.n, confidence, design_effect=self.design_effect)

    def p_greater(self, bound: float) -> float:
        return score_p_value(self.successes, self.n, bound, design_effect=self.design_effect)

    def scaled(self, factor: float) -> Self:
        size = max(1, round(self.n * factor))
        share = self.successes / self.n if self.n else 0.0
        return type(self)(share * size, size, self.design_effect)

    def describe(self) -> str:
        return f"{self.n} items"


def _decide(evidence: Evidence, bound: float, alpha: float, sign: str) -> Decision:
    # A two-sided interval has no meaning at a one-sided level of a half and above.
    confidence = 1.0 - 2.0 * min(alpha, 0.4999)
    estimate = evidence.interval(confidence)
    numbers = (
        f"{estimate.value:{sign}.3f} [{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}] against {bound:{sign}.3f}"
        f" ({evidence.describe()})"
    )
    if estimate.n == 0:
        reason = f"no items to judge by: {numbers}; about {MINIMUM_ITEMS} needed"
        return Decision(Verdict.INCONCLUSIVE, reason, estimate, 1.0, MINIMUM_ITEMS)
    p_value = evidence.p_greater(bound)
    lacking = _lacking(evidence)
    if lacking is None and estimate.low > bound:
        return Decision(Verdict.PASS, f"above the bound: {numbers}", estimate, p_value)
    if lacking is None and estimate.high < bound:
        return Decision(Verdict.FAIL, f"below the bound: {numbers}", estimate, p_value)
    more = more_needed(evidence, bound, confidence)
    advice = f"about {more:,} more needed" if more is not None else "at this value more items alone will not settle it"
    if more is None and evidence.n < MINIMUM_ITEMS:
        advice = f"about {MINIMUM_ITEMS - evidence.n} more needed at the very least, and {advice}"
    why = lacking or "the interval holds the bound"
    return Decision(Verdict.INCONCLUSIVE, f"{why}: {numbers}; {advice}", estimate, p_value, more)


def more_needed(evidence: Evidence, bound: float, confidence: float = 0.90) -> int | None:
    """About how many more items, like those seen, put the interval on its side of the bound with probability 80 %.

    Searches the size at which the nearer limit clears the bound by the normal quantile of 80 % standard errors; never
    less than what the minimum sample still lacks. None where even a thousand times as many would not do.
    """
    least = max(1.0, MINIMUM_ITEMS / max(1, evidence.n), MINIMUM_CLUSTERS / (evidence.freedom + 1.0))
    if _clears(evidence.scaled(least), bound, confidence):
        return math.ceil(evidence.n * (least - 1.0) - 1e-9)
    if not _clears(evidence.scaled(FARTHEST), bound, confidence):
        return None
    near, far = least, FARTHEST
    while far / near > 1.01:
        middle = math.sqrt(near * far)
        near, far = (near, middle) if _clears(evidence.scaled(middle), bound, confidence) else (middle, far)
    return two_figures(evidence.n * (far - 1.0))


def _clears(evidence: Evidence, bound: float, confidence: float) -> bool:
    estimate = evidence.interval(confidence)
    # Half a 68.27 % interval is one standard error, whatever the method.
    one = evidence.interval(0.6826894921370859)
    if estimate.value > bound:
        return estimate.low - _POWER * (one.value - one.low) > bound
    return estimate.high + _POWER * (one.high - one.value) < bound


def _lacking(evidence: Evidence) -> str | None:
    if evidence.n < MINIMUM_ITEMS:
        return f"fewer than {MINIMUM_ITEMS} items"
    if evidence.freedom + 1.0 < MINIMUM_CLUSTERS - 1e-6:
        return f"fewer than {MINIMUM_CLUSTERS} independent groups"
    return None


def two_figures(number: float) -> int:
    """Advice is "about": two figures, rounded up."""
    whole = math.ceil(number)
    unit = 10 ** max(0, len(str(whole)) - 2)
    return int(math.ceil(whole / unit) * unit)
