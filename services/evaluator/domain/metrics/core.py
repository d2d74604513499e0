"""The one shape of a metric: a score per item and the sufficient statistics its corpus value is made of."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from libs.contracts.errors import InvalidInput

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Sample:
    """An answer, the right answer and the question (the last user message)."""

    text: str
    reference: str
    question: str = ""


@dataclass(frozen=True, slots=True)
class Measure:
    """What a metric says of one answer: `score` in [0, 1]; `statistics` add up over items to a corpus value."""

    score: float
    statistics: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric that needs nothing but the texts.

    Args:
        name: What gates and reports call it.
        signature: Everything that changes its value; two scores of different signatures are never compared.
        measure: Scores one answer; InvalidInput where it cannot, which no metric with a corpus value does.
        corpus: Value in [0, 1] of summed statistics, shape (..., k) to (...); None for a mean of scores.
    """

    name: str
    signature: str
    measure: Callable[[Sample], Measure]
    corpus: Callable[[Array], Array] | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """What one metric said of one arm's answers to all items, in their order; None where it could not tell.

    `statistics` has shape (n, k) for corpus metrics. `failures` say per place why there is no score; `open` are the
    places of items that have no right answer to be scored by. `doubt` says why no gate may rest on the scores; `tilt`
    is by how much a judge may favour one arm over another, as far as experts' votes show; `admission` which votes.
    """

    signature: str
    scores: tuple[float | None, ...]
    statistics: Array | None = None
    corpus: Callable[[Array], Array] | None = None
    failures: Mapping[int, str] | None = None
    open: frozenset[int] = frozenset()
    doubt: str | None = None
    tilt: float = 0.0
    admission: Mapping[str, Any] | None = None


def column(metric: Metric, samples: Sequence[Sample], refused: Collection[int] = ()) -> Column:
    """Score all answers. One that serving refused, by its place, scores 0 and weighs as an empty answer does; one that
    the metric fails on has no score, and costs no other its own.
    """
    measures: list[Measure | None] = []
    failures: dict[int, str] = {}
    for place, sample in enumerate(samples):
        try:
            measures.append(_refused(metric, sample) if place in refused else metric.measure(sample))
        except InvalidInput as error:
            measures.append(None)
            failures[place] = str(error)
    scores = tuple(None if each is None else each.score for each in measures)
    if metric.corpus is None:
        return Column(metric.signature, scores, failures=failures)
    rows = np.array([each.statistics for each in measures if each is not None], dtype=np.float64)
    return Column(metric.signature, scores, rows, metric.corpus)


def _refused(metric: Metric, sample: Sample) -> Measure:
    if metric.corpus is None:
        return Measure(0.0)
    return replace(metric.measure(replace(sample, text="")), score=0.0)
