"""What each arm costs, and which approach to use: the simplest one that is as good as the best, and why."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from libs.contracts.estimates import Verdict
from libs.contracts.task import PriceSpec
from libs.statistics.gates import non_inferiority, superiority
from services.evaluator.domain.answers import Answer, Arm
from services.evaluator.domain.scores import Incomparable
from services.evaluator.domain.sheet import Sheet

EFFORT = {"base": 0, "prompt": 1, "retrieval": 2, "external": 2, "fine_tuned": 3, "stable": 3}
"""How much it takes to build and keep an arm of a kind; one more for retrieval on top of a fine-tune."""
_MILLION = 1e6


@dataclass(frozen=True, slots=True)
class Cost:
    """Per answer: tokens, seconds under the load of the evaluation, and money per thousand answers where priced."""

    answers: int
    reused: int
    prompt_tokens: float
    completion_tokens: float
    seconds_median: float
    seconds_p95: float
    per_thousand: float | None

    def dump(self) -> dict[str, Any]:
        """As in the report."""
        return {name: getattr(self, name) for name in type(self).__slots__}


def cost_of(arm: Arm, report_id: str, price: PriceSpec | None) -> Cost:
    """What the arm's answers took."""
    answered = [answer for answer in arm.answers.values() if not answer.error]
    n = max(1, len(answered))
    into = sum(answer.prompt_tokens for answer in answered) / n
    out = sum(answer.completion_tokens for answer in answered) / n
    seconds = sorted(answer.seconds for answer in answered)
    return Cost(
        answers=len(arm.answers),
        reused=sum(1 for answer in arm.answers.values() if reused(answer, report_id)),
        prompt_tokens=round(into, 2),
        completion_tokens=round(out, 2),
        seconds_median=_quantile(seconds, 0.5),
        seconds_p95=_quantile(seconds, 0.95),
        per_thousand=None if price is None else 1000.0 * (into * price.input + out * price.output) / _MILLION,
    )


def reused(answer: Answer, report_id: str) -> bool:
    """Whether an answer was generated for an earlier report."""
    return bool(answer.made_in) and answer.made_in != report_id


def recommend(
    sheet: Sheet,
    metric: str,
    kinds: Mapping[str, str],
    costs: Mapping[str, Cost],
    close_enough: float,
    alpha: float = 0.05,
) -> dict[str, Any]:
    """The arm to use, with every other arm's place beside it.

    The best by value is taken unless a simpler arm is shown to be within `close_enough` of it (non-inferiority); among
    several such the simplest, then the cheapest. `sure` says that the choice is shown: non-inferior to the best, or
    superior to all simpler arms and non-inferior to all others.
    """
    arms = [arm.name for arm in sheet.arms if arm.name != "stable" and sheet.score(arm.name, metric) is not None]
    if len(arms) < 2:
        return {"arm": None, "sure": False, "why": ["fewer than two arms were scored: there is nothing to choose from"]}
    values = {name: _value(sheet, name, metric) for name in arms}
    best = max(arms, key=lambda name: (values[name], -_effort(name, kinds), name))
    why: list[str] = [f"{best} has the highest {metric}: {values[best]:.3f}"]
    sure = True
    simpler = sorted(
        (name for name in arms if name != best and _effort(name, kinds) < _effort(best, kinds)),
        key=lambda name: (_effort(name, kinds), _price(costs, name), name),
    )
    for name in simpler:
        verdict, told = _close(sheet, name, best, metric, close_enough, alpha)
        if verdict is Verdict.PASS:
            why.append(f"{name} is simpler and as good within {close_enough:g}: {told}")
            return {"arm": name, "metric": metric, "sure": True, "why": [*why, *_money(costs, name, best)]}
    for name in simpler:
        verdict, told = _better(sheet, best, name, metric, alpha)
        sure = sure and verdict is Verdict.PASS
        word = "better than" if verdict is Verdict.PASS else "not shown to be better than"
        why.append(f"{best} is {word} the simpler {name}: {told}")
        why.extend(_money(costs, best, name))
    for name in (each for each in arms if each != best and each not in simpler):
        verdict, told = _close(sheet, best, name, metric, close_enough, alpha)
        if verdict is not Verdict.PASS:
            sure = False
            why.append(f"{name}, which is no simpler, is not shown to be no better: {told}")
    return {"arm": best, "metric": metric, "sure": sure, "why": why}


def _close(sheet: Sheet, name: str, best: str, metric: str, margin: float, alpha: float) -> tuple[Verdict, str]:
    mine, theirs = sheet.score(name, metric), sheet.score(best, metric)
    assert mine is not None
    assert theirs is not None
    try:
        decision = non_inferiority(mine.minus(theirs), margin, alpha) if margin else superiority(mine.minus(theirs))
    except Incomparable as error:
        return Verdict.INCONCLUSIVE, str(error)
    return decision.verdict, decision.reason


def _better(sheet: Sheet, best: str, name: str, metric: str, alpha: float) -> tuple[Verdict, str]:
    mine, theirs = sheet.score(best, metric), sheet.score(name, metric)
    assert mine is not None
    assert theirs is not None
    try:
        decision = superiority(mine.minus(theirs), 0.0, alpha)
    except Incomparable as error:
        return Verdict.INCONCLUSIVE, str(error)
    return decision.verdict, decision.reason


def _value(sheet: Sheet, name: str, metric: str) -> float:
    score = sheet.score(name, metric)
    return score.estimate().value if score is not None else -math.inf


def _effort(name: str, kinds: Mapping[str, str]) -> float:
    kind, _, on = kinds.get(name, name).partition("/")
    return EFFORT.get(kind, 0) + (2 if on in ("fine_tuned", "stable") else 0)


def _price(costs: Mapping[str, Cost], name: str) -> float:
    cost = costs.get(name)
    if cost is None:
        return math.inf
    return cost.per_thousand if cost.per_thousand is not None else cost.prompt_tokens + cost.completion_tokens


def _money(costs: Mapping[str, Cost], name: str, other: str) -> list[str]:
    mine, theirs = costs.get(name), costs.get(other)
    if mine is None or theirs is None:
        return []
    tokens = (
        f"{name} takes {mine.prompt_tokens:.0f}+{mine.completion_tokens:.0f} tokens and {mine.seconds_median:.2f} s per"
        f" answer, {other} {theirs.prompt_tokens:.0f}+{theirs.completion_tokens:.0f} and {theirs.seconds_median:.2f} s"
    )
    if mine.per_thousand is None or theirs.per_thousand is None:
        return [tokens]
    return [f"{tokens}; a thousand answers cost {mine.per_thousand:.4g} against {theirs.per_thousand:.4g}"]


def _quantile(ordered: Sequence[float], share: float) -> float:
    if not ordered:
        return 0.0
    return round(ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)], 4)
