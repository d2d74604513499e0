"""Thresholds of near duplicates that calibrate themselves: copies are planted, what is found of them is measured."""

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from services.curation.compute.calibrate_hard import HARD, Corpus
from services.curation.compute.calibrate_plants import SAME, plain_words
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

    `precision` counts merges of planted copies; with a stranger, or of a hard negative with anything, they are wrong.
    `by_kind` is the recall of each kind of perturbation, `hard_by_kind` the share of each kind of hard negative that
    was merged with its row: a kind that the rows gave no word for is not there, and nothing is known of it. `curve`
    (threshold, precision, recall) is of all thresholds tried.
    """

    threshold: float
    precision: Interval
    recall: Interval
    hard_negatives_merged: Interval
    by_kind: dict[str, Interval]
    hard_by_kind: dict[str, Interval]
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

    Planted are copies with typos, another case, another order, other words, and a frame, and hard negatives of each
    class of difference that the guard claims, where a row has a word of that class. Pairs of sampled rows merged with
    each other are not counted: nobody knows whether they are right.
    """
    planted = _plant(texts, random.Random(seed), sample)
    tried = {threshold: _measure(planted, threshold, guard=guard) for threshold in thresholds}
    able = [each for each in thresholds if tried[each].precision.value >= floor]
    best = max(able, key=lambda each: (tried[each].recall.value, each)) if able else thresholds[0]
    chosen = tried[best]
    curve = tuple((each, tried[each].precision.value, tried[each].recall.value) for each in thresholds)
    return replace(chosen, curve=curve)


def _plant(texts: Sequence[str], rng: random.Random, sample: int) -> _Planted:
    """Sampled rows, then one copy of each, perturbed in the way that was taken least so far and that the row allows."""
    distinct = list(dict.fromkeys(texts))
    chosen = rng.sample(distinct, min(sample, len(distinct)))
    vocabulary, corpus = plain_words(chosen), Corpus.of(chosen)
    planted = _Planted(list(chosen), list(range(len(chosen))), ["row"] * len(chosen), len(chosen))
    counts = dict.fromkeys((*SAME, *HARD), 0)
    for at, text in enumerate(chosen):
        for kind in sorted(counts, key=counts.__getitem__):
            copy = SAME[kind](text, rng, vocabulary) if kind in SAME else HARD[kind](text, rng, corpus)
            if copy is not None and copy != text:
                planted.texts.append(copy)
                planted.origin.append(at)
                planted.kind.append(kind)
                counts[kind] += 1
                break
    return planted


def _measure(planted: _Planted, threshold: float, *, guard: bool) -> Calibration:
    centres = find_near(planted.texts, threshold=threshold, guard=guard).centres
    found: dict[str, list[bool]] = {}
    right = merged = 0
    for at in range(planted.rows, len(centres)):
        origin = planted.origin[at]
        together = centres[at] == centres[origin]
        found.setdefault(planted.kind[at], []).append(together)
        if centres[at] != at and (planted.kind[at] in SAME or together):
            merged += 1
            right += together and planted.kind[at] in SAME
    hard = [each for kind in HARD for each in found.get(kind, [])]
    same = [each for kind in SAME for each in found.get(kind, [])]
    intervals = {kind: Interval.of(sum(each), len(each)) for kind, each in sorted(found.items())}
    return Calibration(
        threshold, Interval.of(right, merged), Interval.of(sum(same), len(same)), Interval.of(sum(hard), len(hard)),
        {kind: each for kind, each in intervals.items() if kind in SAME},
        {kind: each for kind, each in intervals.items() if kind in HARD}, (),
    )  # fmt: skip
