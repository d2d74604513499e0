"""The noise floor: how far a score moves when nothing changed but the run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.evaluator.domain.answers import Answer
from services.evaluator.domain.metrics.core import Column, Metric, Sample, column
from services.evaluator.domain.sheet import Sheet
from services.evaluator.domain.suite import Item

Scores = Sequence[float | None]

_TWO_SIGMA = 1.959964


@dataclass(frozen=True, slots=True)
class Noise:
    """An A/A comparison: the candidate's own answers, generated and scored twice, by judges and embeddings too.

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
            "method": "A/A: the candidate's answers to a seeded sample, generated and scored a second time",
            "items": self.items,
            "changed_texts": self.changed_texts,
            "changed_scores": dict(self.changed_scores),
            "floors": dict(self.floors),
        }


def measure_noise(
    sheet: Sheet, again: Mapping[str, Answer], metrics: Sequence[Metric], judged: Mapping[str, Column]
) -> Noise | None:
    """Compare the candidate's answers with a second set of them; None where nothing was repeated.

    Args:
        sheet: The suite as it was scored.
        again: Second answers by item id.
        metrics: Those that are scored here.
        judged: What was scored elsewhere, a second time: by metric, the items that were repeated in their order.
    """
    items, first = sheet.suite.items, sheet.candidate.answers
    places = [place for place, item in enumerate(items) if item.item_id in again]
    if not places:
        return None
    twice = [items[place] for place in places]
    pairs: dict[str, tuple[Scores, Scores]] = {
        metric.name: (_scored(metric, first, twice), _scored(metric, again, twice)) for metric in metrics
    }
    for name, found in judged.items():
        score = sheet.score(sheet.candidate.name, name)
        if score is not None:
            pairs[name] = ([score.column.scores[place] for place in places], found.scores)
    changed, floors = {}, {}
    for name, (one, other) in pairs.items():
        squares = [
            (left - right) ** 2
            for left, right in zip(one, other, strict=True)
            if left is not None and right is not None
        ]
        changed[name] = sum(1 for square in squares if square > 0.0)
        floors[name] = _TWO_SIGMA * math.sqrt(math.fsum(squares) / max(1, len(squares)) / len(items))
    texts = sum(1 for item in twice if first[item.item_id].text != again[item.item_id].text)
    return Noise(len(twice), len(items), texts, changed, floors)


def _scored(metric: Metric, answers: Mapping[str, Answer], items: Sequence[Item]) -> Scores:
    samples = [Sample(answers[item.item_id].text, item.answer, item.messages[-1].content) for item in items]
    return column(metric, samples).scores
