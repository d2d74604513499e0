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
class ArmNoise:
    """An A/A comparison: one arm's own answers, generated and scored twice, by judges and embeddings too.

    `floors[metric]` is the size below which a difference between two runs over the whole suite is what chance alone
    gives in 95 of 100: 1.96 sqrt(mean squared change of an item's score / items).
    """

    items: int
    changed_texts: int
    changed_scores: Mapping[str, int]
    floors: Mapping[str, float]

    def dump(self) -> dict[str, Any]:
        """As in the report."""
        return {
            "items": self.items,
            "changed_texts": self.changed_texts,
            "changed_scores": dict(self.changed_scores),
            "floors": dict(self.floors),
        }


@dataclass(frozen=True, slots=True)
class Noise:
    """The noise of the arms of a suite of `of` items; the candidate's, whose name is `candidate`, is always known."""

    of: int
    candidate: str
    arms: Mapping[str, ArmNoise]

    def floor(self, metric: str, items: int, other: str) -> float:
        """Below this a difference of the candidate to another arm over so many items is chance.

        Each arm brings half of its own A/A noise; one that was not repeated is taken to be as noisy as the candidate.
        """
        mine = self.arms[self.candidate].floors.get(metric, 0.0)
        theirs = self.arms[other].floors.get(metric, 0.0) if other in self.arms else mine
        return math.sqrt((mine**2 + theirs**2) / 2.0 * self.of / max(1, items))

    def below(self, metric: str, value: float, items: int, other: str) -> bool:
        """Whether a difference to another arm is no greater than the noise."""
        floor = self.floor(metric, items, other)
        return floor > 0.0 and abs(value) <= floor

    def dump(self) -> dict[str, Any]:
        """As in the report: the candidate's own noise, and that of every arm."""
        return {
            "method": "A/A: each arm's answers to a seeded sample, generated and scored a second time",
            **self.arms[self.candidate].dump(),
            "arms": {name: noise.dump() for name, noise in self.arms.items()},
        }


def measure_noise(
    sheet: Sheet,
    again: Mapping[str, Mapping[str, Answer]],
    metrics: Sequence[Metric],
    judged: Mapping[str, Mapping[str, Column]],
) -> Noise | None:
    """Compare the arms' answers with a second set of them; None where the candidate's were not repeated.

    Args:
        sheet: The suite as it was scored.
        again: Second answers by arm and item id.
        metrics: Those that are scored here.
        judged: What was scored elsewhere, a second time: by arm and metric, the repeated items in their order.
    """
    found = {
        arm.name: _of_arm(sheet, arm.name, arm.answers, again[arm.name], metrics, judged.get(arm.name, {}))
        for arm in sheet.arms
        if again.get(arm.name)
    }
    candidate = sheet.candidate.name
    return Noise(len(sheet.suite.items), candidate, found) if candidate in found else None


def _of_arm(
    sheet: Sheet,
    arm: str,
    first: Mapping[str, Answer],
    again: Mapping[str, Answer],
    metrics: Sequence[Metric],
    judged: Mapping[str, Column],
) -> ArmNoise:
    items = sheet.suite.items
    places = [place for place, item in enumerate(items) if item.item_id in again]
    twice = [items[place] for place in places]
    pairs: dict[str, tuple[Scores, Scores]] = {
        metric.name: (_scored(metric, first, twice), _scored(metric, again, twice)) for metric in metrics
    }
    for name, found in judged.items():
        score = sheet.score(arm, name)
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
    return ArmNoise(len(twice), texts, changed, floors)


def _scored(metric: Metric, answers: Mapping[str, Answer], items: Sequence[Item]) -> Scores:
    samples = [Sample(answers[item.item_id].text, item.answer, item.messages[-1].content) for item in items]
    return column(metric, samples).scores
