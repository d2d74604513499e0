"""Whether the raters can be believed, and what a judge calibrated against them adds."""

from collections.abc import Mapping, Sequence
from typing import Any

from libs.contracts.events import Estimate
from services.evaluator.domain.campaign import Item

FEWEST_OVERLAPPING = 10
Rated = Mapping[str, Mapping[str, tuple[float, str]]]


def agreement_of(rated: Rated) -> Estimate | None:
    """Krippendorff's alpha over the items that several people voted on; None while they are too few."""
    return None


def length_controlled_of(scored: Sequence[tuple[Item, float]]) -> dict[str, Any] | None:
    """The win rate at equal length of the two answers."""
    return None


def judges_of(
    labels: Mapping[str, tuple[Item, float]], items: Sequence[Item], judgements: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """Each judge with its calibration and, once admitted, the debiased win rate."""
    return {}
