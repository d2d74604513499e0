"""One suite with every arm's answers and scores: what gates, differences and advice are read from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from libs.contracts.errors import DataLoss
from services.evaluator.domain.answers import Arm
from services.evaluator.domain.metrics.core import Column, Metric, Sample, column
from services.evaluator.domain.scores import Score, passport, slices_of
from services.evaluator.domain.suite import Item

FORM = "json_valid"
"""The one metric that open items, which have no right answer, are judged by."""

Columns = Mapping[str, Mapping[str, Column]]
"""Arm -> metric -> what was scored elsewhere (by a judge, by embeddings)."""


@dataclass(frozen=True, slots=True)
class Suite:
    """Frozen items; `kind` is task, general, edge, safety, items or harness."""

    name: str
    kind: str
    digest: str
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A suite's scores by arm and metric. The first arm is the candidate; `mix` is the share of traffic by category."""

    suite: Suite
    arms: tuple[Arm, ...]
    scores: Mapping[str, Mapping[str, Score]]
    slices: Mapping[str, list[int]]
    mix: Mapping[str, float] | None = None

    @property
    def candidate(self) -> Arm:
        """What is judged."""
        return self.arms[0]

    def score(self, arm: str, metric: str) -> Score | None:
        """One arm's score by one metric, if it was measured."""
        return self.scores.get(arm, {}).get(metric)

    @property
    def uncovered(self) -> float:
        """The share of traffic in categories that no item stands for."""
        mix = self.mix or {}
        return sum(share for name, share in mix.items() if name not in self.slices) / (sum(mix.values()) or 1.0)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics of the candidate, in the order of the task file."""
        return tuple(self.scores[self.candidate.name])


def make_sheet(
    suite: Suite,
    arms: Sequence[Arm],
    metrics: Sequence[Metric],
    max_tokens: int,
    *,
    columns: Columns | None = None,
    mix: Mapping[str, float] | None = None,
) -> Sheet:
    """Score every arm's answers. Raises DataLoss when an arm lacks an answer."""
    scores = {}
    groups = tuple(item.group for item in suite.items)
    categories = tuple(item.category for item in suite.items)
    for arm in arms:
        found = {metric.name: _score(metric, arm, suite.items) for metric in metrics}
        found.update((columns or {}).get(arm.name, {}))
        scores[arm.name] = {
            name: Score(each, passport(arm, each.signature, suite.digest, max_tokens), groups, categories)
            for name, each in found.items()
        }
    return Sheet(suite, tuple(arms), scores, slices_of(suite.items), mix)


def samples_of(arm: Arm, items: Sequence[Item]) -> list[Sample]:
    """The arm's answers beside the right ones, in the order of the items. Raises DataLoss when one is missing."""
    missing = [item.item_id for item in items if item.item_id not in arm.answers]
    if missing:
        raise DataLoss(f"arm {arm.name} has no answer to {len(missing)} items, the first is {missing[0]!r}")
    return [Sample(arm.answers[item.item_id].text, item.answer, item.messages[-1].content) for item in items]


def refused(arm: Arm, items: Sequence[Item]) -> set[int]:
    """Places of the items that serving refused to this arm."""
    return {place for place, item in enumerate(items) if arm.answers[item.item_id].error}


def _score(metric: Metric, arm: Arm, items: Sequence[Item]) -> Column:
    made = column(metric, samples_of(arm, items), refused(arm, items))
    if metric.name == FORM or not any(item.open for item in items):
        return made
    kept = tuple(None if item.open else score for item, score in zip(items, made.scores, strict=True))
    unjudged = frozenset(place for place, item in enumerate(items) if item.open)
    return replace(made, scores=kept, open=unjudged)
