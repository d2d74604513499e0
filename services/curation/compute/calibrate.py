"""Thresholds of near duplicates that calibrate themselves: copies are planted, what is found of them is measured."""

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from services.curation.compute.calibrate_plants import HARD, SAME, plain_words
from services.curation.compute.near import find_near

THRESHOLDS = (0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5)
_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Interval:
    """A share with its 95 % interval (Wilson, 1927)."""

    value: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, hits: int, count: int) -> "Interval":
        """The interval of `hits` among `count`; of nothing, everything between 0 and 1."""
        if not count:
            return cls(0.0, 0.0, 1.0, 0)
        share, square = hits / count, _Z * _Z / count
        centre = (share + square / 2) / (1 + square)
        half = _Z * math.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
        return cls(share, max(0.0, centre - half), min(1.0, centre + half), count)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The threshold chosen and what it was measured to do on planted copies of this corpus.

    `precision` counts merges of planted copies and sampled rows with a stranger among what is wrong; `by_kind` is the
    recall of each kind of perturbation, `curve` (threshold, precision, recall) of all thresholds tried.
    """

    threshold: float
    precision: Interval
    recall: Interval
    hard_negatives_merged: Interval
    by_kind: dict[str, Interval]
    curve: tuple[tuple[float, float, float], ...]

    def told(self) -> dict[str, Any]:
        """As the report holds it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Planted:
    texts: list[str]
    origin: list[int]
    kind: list[str]
    rows: int


def calibrate(
    texts: Sequence[str],
    *,
    seed: int = 1,
    sample: int = 2000,
    floor: float = 0.99,
    guard: bool = True,
    thresholds: Sequence[float] = THRESHOLDS,
) -> Calibration:
    """Of `thresholds` (falling) the one with the best recall at a precision of `floor`, else the strictest.

    Planted are copies with typos, another case, another order, other words, and a frame, and hard negatives with
    another number. Pairs of sampled rows merged with each other are not counted: nobody knows whether they are right.
    """
    planted = _plant(texts, random.Random(seed), sample)
    tried = {threshold: _measure(planted, threshold, guard=guard) for threshold in thresholds}
    able = [each for each in thresholds if tried[each].precision.value >= floor]
    best = max(able, key=lambda each: (tried[each].recall.value, each)) if able else thresholds[0]
    chosen = tried[best]
    curve = tuple((each, tried[each].precision.value, tried[each].recall.value) for each in thresholds)
    return Calibration(best, chosen.precision, chosen.recall, chosen.hard_negatives_merged, chosen.by_kind, curve)


def _plant(texts: Sequence[str], rng: random.Random, sample: int) -> _Planted:
    """Sampled rows, then one copy of each, perturbed in one way."""
    distinct = list(dict.fromkeys(texts))
    chosen = rng.sample(distinct, min(sample, len(distinct)))
    vocabulary = plain_words(chosen)
    planted = _Planted(list(chosen), list(range(len(chosen))), ["row"] * len(chosen), len(chosen))
    plants = [*SAME.items(), *HARD.items()]
    for at, text in enumerate(chosen):
        kind, plant = plants[at % len(plants)]
        copy = plant(text, rng, vocabulary)
        if copy is not None and copy != text:
            planted.texts.append(copy)
            planted.origin.append(at)
            planted.kind.append(kind)
    return planted


def _measure(planted: _Planted, threshold: float, *, guard: bool) -> Calibration:
    centres = find_near(planted.texts, threshold=threshold, guard=guard).centres
    found: dict[str, list[bool]] = {}
    right = merged = 0
    for at in range(planted.rows, len(centres)):
        origin = planted.origin[at]
        together = centres[at] == centres[origin]
        found.setdefault(planted.kind[at], []).append(together)
        if centres[at] != at and planted.kind[at] not in HARD:
            merged += 1
            right += together
    hard = [each for kind in HARD for each in found.get(kind, [])]
    same = [each for kind in SAME for each in found.get(kind, [])]
    by_kind = {kind: Interval.of(sum(each), len(each)) for kind, each in sorted(found.items()) if kind in SAME}
    return Calibration(
        threshold, Interval.of(right, merged), Interval.of(sum(same), len(same)), Interval.of(sum(hard), len(hard)),
        by_kind, (),
    )  # fmt: skip
