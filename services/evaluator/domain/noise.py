"""The noise floor: how far a score moves when nothing changed but the run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.evaluator.domain.answers import Answer, Arm
from services.evaluator.domain.metrics.core import Metric, Sample, column
from services.evaluator.domain.suite import Item

_TWO_SIGMA = 1.959964


@dataclass(frozen=True, slots=True)
class Noise:
    """An A/A comparison: the candidate's own answers, generated twice.

    `floors[metric]` is the size below which a difference between two runs over the whole suite of `of` items is what
    chance alone gives in 95 of 100: 1.96 sqrt(mean squared change of an item's score / items).
    """

    items: int
    of: int
    changed_texts: int
    changed_scores: Mapping[str, int]
    floors: Mapping[str, float]

    def below(self, metric: str, value: float, items: int) -> bool:
        """Whether a difference over so many items is no greater than the noise."""
        floor = self.floors.get(metric, 0.0) * math.sqrt(self.of / max(1, items))
        return floor > 0.0 and abs(value) <= floor

    def dump(self) -> dict[str, Any]:
        """As in the report."""
        return {
            "method": "A/A: the candidate's answers to a seeded sample, generated a second time",
            "items": self.items,
            "changed_texts": self.changed_texts,
            "changed_scores": dict(self.changed_scores),
            "floors": dict(self.floors),
        }


def measure_noise(
    arm: Arm, again: Mapping[str, Answer], items: Sequence[Item], metrics: Sequence[Metric]
) -> Noise | None:
    """Compare an arm's answers with a second set of them; None where nothing was repeated."""
    twice = [item for item in items if item.item_id in again]
    if not twice:
        return None
    changed, floors = {}, {}
    for metric in metrics:
        first, second = (
            column(metric, [Sample(run[i.item_id].text, i.answer, i.messages[-1].content) for i in twice]).scores
            for run in (arm.answers, again)
        )
        squares = [
            (one - other) ** 2
            for one, other in zip(first, second, strict=True)
            if one is not None and other is not None
        ]
        changed[metric.name] = sum(1 for square in squares if square > 0.0)
        floors[metric.name] = _TWO_SIGMA * math.sqrt(math.fsum(squares) / max(1, len(squares)) / len(items))
    texts = sum(1 for item in twice if arm.answers[item.item_id].text != again[item.item_id].text)
    return Noise(len(twice), len(items), texts, changed, floors)
