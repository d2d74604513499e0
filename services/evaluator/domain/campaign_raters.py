"""Whether the raters can be believed, how much length pulls, and what a judge calibrated against them adds."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from libs.contracts.answers import same_answer
from libs.contracts.estimates import Estimate
from libs.statistics.agreement import agreement
from libs.statistics.lengths import length_controlled
from libs.statistics.prediction import judge_calibration, prediction_powered
from services.evaluator.domain.campaign import Item, shown

FEWEST_OVERLAPPING = 10
LOWEST_AGREEMENT = 0.4
_OFTEN = 0.75
Rated = Mapping[str, Mapping[str, tuple[float, str]]]
"""Item -> reviewer -> (preference for the treatment, the choice in terms of the arms)."""


def agreement_of(rated: Rated) -> Estimate | None:
    """Krippendorff's alpha over the items that several people voted on; None while they are fewer than ten."""
    shared = {item: votes for item, votes in rated.items() if len(votes) > 1}
    if len(shared) < FEWEST_OVERLAPPING:
        return None
    reviewers = sorted({name for votes in shared.values() for name in votes})
    table = [[votes[name][1] if name in votes else None for votes in shared.values()] for name in reviewers]
    return agreement(table, "nominal")


def at_odds(rated: Rated, alpha: Estimate | None) -> bool:
    """Whether the raters are shown to mean different things, so that their votes settle nothing.

    Alpha alone would not do: where nearly all votes go one way it falls although people agree (Feinstein & Cicchetti
    1990, Journal of Clinical Epidemiology 43:543). So its whole interval must lie below 0.4 and two raters of an item
    must also say the same less than three times in four.
    """
    if alpha is None or alpha.high >= LOWEST_AGREEMENT:
        return False
    pairs = [one[1] == two[1] for votes in rated.values() for one, two in combinations(votes.values(), 2)]
    return sum(pairs) < _OFTEN * len(pairs)


def length_controlled_of(scored: Sequence[tuple[Item, float]]) -> dict[str, Any] | None:
    """The win rate at equal length of the two answers, in characters as shown; None without votes."""
    if not scored:
        return None
    longer = [float(len(shown(item.treatment)) - len(shown(item.control))) for item, _ in scored]
    found = length_controlled([value for _, value in scored], longer, [item.group for item, _ in scored])
    return {"estimate": found.rate.model_dump(), "raw": found.raw.model_dump(), "pull": found.pull}


def judges_of(
    labels: Mapping[str, tuple[Item, float]], items: Sequence[Item], judgements: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """Each judge with its calibration and, once admitted, the win rate that its judgements help to.

    Calibrated on the items that experts voted on too. Its judgements of the other items count only through the
    prediction-powered estimate, which takes the judge's bias out again. Items of a group that experts voted on, and
    items that both arms answered alike, are left out of the others.
    """
    told = {}
    groups = {item.group for item, _ in labels.values()}
    for name, given in sorted(judgements.items()):
        both = [(item, value, given[key]) for key, (item, value) in labels.items() if key in given]
        others = [
            (item, given[item.item_id])
            for item in items
            if item.item_id in given and item.group not in groups and not _alike(item)
        ]
        clusters = [item.group for item, _, _ in both]
        votes, judged = [value for _, value, _ in both], [value for _, _, value in both]
        found = judge_calibration(votes, judged, clusters)
        helped = None
        if found.admitted:
            powered = prediction_powered(
                votes, judged, [value for _, value in others], clusters, [item.group for item, _ in others]
            )
            helped = {
                "estimate": powered.estimate.model_dump(),
                "experts": powered.experts.model_dump(),
                "trust": powered.trust,
                "effective_extra_votes": powered.effective_labels - len(votes),
            }
        told[name] = {
            "admitted": found.admitted,
            "reason": found.reason,
            "bias": found.bias.model_dump(),
            "same": found.same.model_dump(),
            "correlation": found.correlation.model_dump(),
            "both": len(both),
            "others": len(others),
            "win_rate": helped,
        }
    return told


def _alike(item: Item) -> bool:
    return item.agreed or same_answer(shown(item.treatment), shown(item.control))
