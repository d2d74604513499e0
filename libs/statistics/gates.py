"""Three-valued decisions: evidence inside the bound passes, evidence beyond it fails, anything else is neither."""

from collections.abc import Mapping
from dataclasses import dataclass

from libs.contracts.events import Estimate, Verdict
from libs.statistics.paired import PairedDifference
from libs.statistics.proportions import score_p_value, wilson


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict, its reason in words, the interval it rests on (two-sided, confidence 1 - 2 alpha) and the p-value."""

    verdict: Verdict
    reason: str
    estimate: Estimate
    p_value: float


def superiority(difference: PairedDifference, margin: float = 0.0, alpha: float = 0.05) -> Decision:
    """Pass when the paired difference exceeds `margin`, fail when it is below it; each side has error rate `alpha`."""
    return _beyond(difference, margin, alpha)


def non_inferiority(difference: PairedDifference, margin: float, alpha: float = 0.05) -> Decision:
    """Pass when the paired difference exceeds `-margin`: "not significant" is no evidence of no loss."""
    return _beyond(difference, -margin, alpha)


def floor(successes: int, n: int, at_least: float, alpha: float = 0.05, *, design_effect: float = 1.0) -> Decision:
    """Pass when the proportion exceeds `at_least`, fail when it is below."""
    estimate = (
        wilson(successes, n, 1.0 - 2.0 * alpha, design_effect=design_effect) if alpha < 0.5 else wilson(successes, n)
    )
    p_value = score_p_value(successes, n, at_least, design_effect=design_effect)
    return _decide(estimate, at_least, p_value, "", f"{n} items")


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values (Holm 1979): each claim may be made alone at the level of the whole family.

    A conjunction (all gates must pass) needs none of it: its error is at most that of its weakest gate (Berger 1982).
    """
    adjusted: dict[str, float] = {}
    largest = 0.0
    ordered = sorted(p_values.items(), key=lambda row: row[1])
    for position, (name, p_value) in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - position) * p_value))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def _beyond(difference: PairedDifference, bound: float, alpha: float) -> Decision:
    estimate = difference.interval(_confidence(alpha))
    sample = f"{difference.n} items in {difference.clusters} groups, {difference.wins} won, {difference.losses} lost"
    return _decide(estimate, bound, difference.p_greater(bound), "+", sample)


def _confidence(alpha: float) -> float:
    # A two-sided interval has no meaning at a one-sided level of a half and above.
    return 1.0 - 2.0 * min(alpha, 0.4999)


def _decide(estimate: Estimate, bound: float, p_value: float, sign: str, sample: str) -> Decision:
    numbers = (
        f"{estimate.value:{sign}.3f} [{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}] against {bound:{sign}.3f}"
        f" ({sample})"
    )
    if estimate.n == 0:
        return Decision(Verdict.INCONCLUSIVE, f"no items to judge by: {numbers}", estimate, 1.0)
    if estimate.low > bound:
        return Decision(Verdict.PASS, f"above the bound: {numbers}", estimate, p_value)
    if estimate.high < bound:
        return Decision(Verdict.FAIL, f"below the bound: {numbers}", estimate, p_value)
    return Decision(Verdict.INCONCLUSIVE, f"the interval holds the bound: {numbers}", estimate, p_value)
