"""Agreement between raters beyond chance."""

import math
from collections.abc import Callable, Hashable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from libs.contracts.errors import InvalidInput
from libs.contracts.estimates import Estimate
from libs.statistics.special import student_quantile

Ratings = Sequence[Sequence[Hashable | None]]
"""Raters x items; None where a rater did not rate the item."""

LEVELS = ("nominal", "ordinal", "interval")


def krippendorff(ratings: Ratings, level: str = "nominal") -> float | None:
    """Krippendorff's alpha (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability"): 1 is perfect agreement,
    0 what chance gives, below 0 is systematic disagreement.

    None where no item has two ratings. Where all ratings are one value there was nothing to disagree about: 1.
    """
    pairs, distances = _coincidences(ratings, level)
    return None if pairs is None else float(_alpha(pairs.sum(axis=0, keepdims=True), distances)[0])


def agreement(
    ratings: Ratings, level: str = "nominal", *, confidence: float = 0.95, draws: int = 1000, seed: int = 0
) -> Estimate:
    """Krippendorff's alpha with an interval by resampling items (Zapf, Castell, Morawietz & Karch 2016, BMC Medical
    Research Methodology 16:93); `n` counts the items rated at least twice. It takes in both the percentiles of the
    draws and Student's t on their spread: where alpha is skewed each is too short on one side.

    Items are the unit: what is uncertain is which items were asked about. With fewer than two such items, or where all
    ratings are one value, nothing is known and the interval is [-1, 1].
    """
    pairs, distances = _coincidences(ratings, level)
    if pairs is None:
        return Estimate(value=0.0, low=-1.0, high=1.0, n=0)
    items = pairs.shape[0]
    value = float(_alpha(pairs.sum(axis=0, keepdims=True), distances)[0])
    if items < 2 or np.count_nonzero(pairs.sum(axis=(0, 1))) < 2:
        return Estimate(value=value, low=-1.0, high=1.0, n=items)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(items, np.full(items, 1.0 / items), size=draws).astype(float)
    sums = (weights @ pairs.reshape(items, -1)).reshape(draws, *pairs.shape[1:])
    found = np.sort(_alpha(sums, distances))
    # Wider percentiles for few items, as Student's t is wider than the normal (Hesterberg 2015, section 5.3).
    wider = student_quantile(0.5 + confidence / 2.0, items - 1) * math.sqrt(items / (items - 1))
    tail = 1.0 - NormalDist().cdf(wider)
    reach = wider * float(found.std())
    low, high = (float(np.quantile(found, share)) for share in (tail, 1.0 - tail))
    low, high = max(-1.0, min(low, value - reach)), min(1.0, max(high, value + reach))
    return Estimate(value=value, low=low, high=high, n=items)


def _coincidences(
    ratings: Ratings, level: str
) -> tuple[NDArray[np.float64] | None, Callable[[NDArray[np.float64]], NDArray[np.float64]]]:
    """Per item, how often each pair of values met (items, v, v), m ratings counting as m pairs; and the distances."""
    if level not in LEVELS:
        raise InvalidInput(f"{level!r} is no level of measurement; there are {', '.join(LEVELS)}", field="level")
    if len({len(row) for row in ratings}) > 1:
        raise InvalidInput("every rater needs one entry per item, None where missing", field="ratings")
    units = [[value for value in column if value is not None] for column in zip(*ratings, strict=True)]
    units = [unit for unit in units if len(unit) >= 2]
    seen = {value for unit in units for value in unit}
    if level == "nominal":
        values = sorted(seen, key=repr)
        distance = _nominal(len(values))
    else:
        numbers = [_number(value) for value in seen]
        values = sorted(seen, key=_number)
        distance = _ordinal if level == "ordinal" else _interval(np.sort(np.array(numbers)))
    if not units:
        return None, distance
    place = {value: index for index, value in enumerate(values)}
    pairs = np.zeros((len(units), len(values), len(values)))
    for index, unit in enumerate(units):
        counts = np.bincount([place[value] for value in unit], minlength=len(values)).astype(float)
        pairs[index] = (np.outer(counts, counts) - np.diag(counts)) / (len(unit) - 1)
    return pairs, distance


def _alpha(
    pairs: NDArray[np.float64], distances: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    totals = pairs.sum(axis=-1)
    distance = distances(totals)
    n = totals.sum(axis=-1)
    observed = (pairs * distance).sum(axis=(-2, -1)) / n
    chance = totals[..., :, None] * totals[..., None, :] / (n * (n - 1.0))[..., None, None]
    expected = (chance * distance).sum(axis=(-2, -1))
    return 1.0 - np.divide(observed, expected, out=np.zeros_like(observed), where=expected > 0.0)


def _nominal(values: int) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    return lambda _: 1.0 - np.eye(values)


def _interval(numbers: NDArray[np.float64]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    return lambda _: (numbers[:, None] - numbers[None, :]) ** 2


def _ordinal(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    # The number of ratings between two values, those at the ends by half.
    middle = np.cumsum(totals, axis=-1) - totals / 2.0
    return (middle[..., :, None] - middle[..., None, :]) ** 2


def _number(value: Hashable) -> float:
    if isinstance(value, int | float):
        return float(value)
    raise InvalidInput(f"{value!r} is no number, as ordinal and interval ratings are", field="ratings")
