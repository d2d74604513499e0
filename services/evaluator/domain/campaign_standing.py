"""What a campaign's votes show: win rates that may be looked at after every vote, and what speaks for the raters."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import Any

from libs.contracts.campaign import BOTH_BAD, LEFT, RIGHT, VOTES, Ballot, Slot, effective
from libs.statistics.gates import two_figures
from libs.statistics.proportions import normal_quantile, wilson
from libs.statistics.winrate import DECISIVE_NEEDED, STRONG, Standing, WinRate, win_rate
from services.evaluator.domain.campaign import CLOSED, Campaign, Item
from services.evaluator.domain.campaign_raters import (
    LOWEST_AGREEMENT,
    agreement_of,
    at_odds,
    judges_of,
    length_controlled_of,
)

ALPHA = 0.05
_Z95, _Z80 = normal_quantile(0.95), NormalDist().inv_cdf(0.8)


@dataclass(frozen=True, slots=True)
class Scored:
    """An item with its preference for the treatment in [0, 1]: the mean over its raters, ties and both bad as half."""

    item: Item
    preference: float
    both_bad: bool


def standing_of(
    campaign: Campaign,
    items: Sequence[Item],
    slots: Sequence[Slot],
    ballots: Sequence[Ballot],
    judgements: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """The standing as a JSON object, a function of the ballots alone.

    Headline per category and overall is (W + T/2) / N over the items voted on. `sequence` holds the true rate at all
    times at once (so that peeking costs nothing) and alone decides the verdict; `interval` is the narrower one for
    whoever looks once. Items that both arms answered alike were not asked about; `with_agreed` counts them as ties.
    """
    standing = [ballot for ballot in effective(ballots) if ballot.choice in VOTES]
    by_slot = {slot.number: slot for slot in slots}
    rated = _rated(standing, by_slot)
    scored = _closed(campaign, items, rated)
    agreed = [item for item in items if item.agreed and item.wanted == 0]
    alpha = agreement_of(rated)
    blocked = at_odds(rated, alpha)
    categories = sorted({each.item.category for each in scored})
    return {
        "campaign_id": campaign.campaign_id,
        "state": campaign.state,
        "treatment": campaign.treatment,
        "control": campaign.control,
        "votes": len(standing),
        "reviewers": len({ballot.reviewer for ballot in standing}),
        "skips": sum(ballot.choice == "skip" for ballot in effective(ballots)),
        "items_open": sum(item.wanted > 0 for item in items) - len(scored),
        "agreed_items": len(agreed),
        "agreement": alpha.model_dump() if alpha is not None else None,
        "overall": _line(scored, blocked),
        "with_agreed": _rate([*scored, *(Scored(item, 0.5, both_bad=False) for item in agreed)]),
        "categories": {name: _line([s for s in scored if s.item.category == name], blocked) for name in categories},
        "length_controlled": length_controlled_of([(s.item, s.preference) for s in scored]),
        "sides": _sides(standing, by_slot),
        "judges": judges_of({s.item.item_id: (s.item, s.preference) for s in scored}, items, judgements),
        "alpha": ALPHA,
        "head": campaign.head,
    }


def preference(ballot: Ballot, slot: Slot) -> float:
    """Preference of one vote for the treatment: 1, 0, or a half."""
    if ballot.choice not in (LEFT, RIGHT):
        return 0.5
    return float(ballot.choice == slot.treatment)


def _rated(standing: Iterable[Ballot], by_slot: Mapping[int, Slot]) -> dict[str, dict[str, tuple[float, str]]]:
    """Votes on pairs: item -> reviewer -> (preference, choice in terms of the arms); items by their first vote."""
    rated: dict[str, dict[str, tuple[float, str]]] = {}
    for ballot in standing:
        slot = by_slot[ballot.slot]
        if slot.kind == "pair":
            value = preference(ballot, slot)
            words = {1.0: "treatment", 0.0: "control"}.get(value, ballot.choice)
            rated.setdefault(ballot.item_id, {})[ballot.reviewer] = (value, words)
    return rated


def _closed(
    campaign: Campaign, items: Sequence[Item], rated: Mapping[str, Mapping[str, tuple[float, str]]]
) -> list[Scored]:
    """Items that have all votes they want (any, once the campaign is closed), in the order of their first votes."""
    known = {item.item_id: item for item in items}
    scored = []
    for item_id, votes in rated.items():
        item = known[item_id]
        if len(votes) >= item.wanted or campaign.state == CLOSED:
            bad = sum(words == BOTH_BAD for _, words in votes.values()) * 2 > len(votes)
            scored.append(Scored(item, fmean(value for value, _ in votes.values()), bad))
    return scored


def _rate(scored: Sequence[Scored]) -> dict[str, Any]:
    """(W + T/2) / N with its clustered interval, for one look."""
    return win_rate([each.preference for each in scored], [each.item.group for each in scored]).fixed.model_dump()


def _line(scored: Sequence[Scored], blocked: bool) -> dict[str, Any]:
    # One score per cluster enters the sequential evidence, the first: its later items would show the same toss again,
    # and a mean that changes after it was counted is no longer a step of the same game.
    first: dict[str, Scored] = {}
    for each in scored:
        first.setdefault(each.item.group, each)
    always = win_rate([each.preference for each in first.values()], alpha=ALPHA)
    sizes = Counter(_side(each.preference) for each in scored)
    rate = _rate(scored)
    verdict, reason = _verdict(always, blocked)
    return {
        "win_rate": rate["value"],
        "interval": rate,
        "sequence": {"low": always.always.low, "high": always.always.high},
        "e_value": always.e_value,
        "wins": sizes["win"],
        "losses": sizes["loss"],
        "ties": sizes["tie"],
        "both_bad": sum(each.both_bad for each in scored),
        "items": len(scored),
        "clusters": len(first),
        "verdict": verdict,
        "reason": reason,
    }


def _verdict(found: WinRate, blocked: bool) -> tuple[str, str]:
    rate, decisive = found.always, found.wins + found.losses
    told = f"{rate.value:.0%}, at all times within {rate.low:.0%} to {rate.high:.0%}"
    if blocked:
        return "blocked", f"raters agree too little (alpha below {LOWEST_AGREEMENT}): mend the guidelines; {told}"
    match found.standing:
        case Standing.TOO_FEW:
            return "inconclusive", f"{decisive} decisive items, {DECISIVE_NEEDED} needed for any verdict; {told}"
        case Standing.UNDECIDED:
            return "inconclusive", f"{_more(found)}; {told}"
        case Standing.WORSE:
            return "worse", f"the other arm is preferred: {told}"
        case Standing.PROVEN_STRONG:
            return "proven strong", f"the rate itself is at least {STRONG:.0%}: {told}"
        case standing:
            return standing.value, f"preferred: {told}"


def _more(found: WinRate) -> str:
    """How many more decisive items a verdict may take at the present share (Noether 1987, JASA 82:645)."""
    decisive = found.wins + found.losses
    gap = abs(found.wins / decisive - 0.5)
    if gap < 0.02:
        return "preferred about as often as not"
    needed = ((_Z95 * 0.5 + _Z80 * math.sqrt(0.25 - gap * gap)) / gap) ** 2
    # That is for one look at a size fixed beforehand; watching all the time costs about half as many again.
    return f"about {two_figures(max(10.0, 1.5 * needed - decisive)):,} more decisive items needed if it goes on so"


def _side(value: float) -> str:
    return "win" if value > 0.5 else "loss" if value < 0.5 else "tie"


def _sides(standing: Sequence[Ballot], by_slot: Mapping[int, Slot]) -> dict[str, Any]:
    """Whether the side alone pulls: left picks, picks between two equal texts, and the same person's second look."""
    picks = [ballot for ballot in standing if ballot.choice in (LEFT, RIGHT)]
    same = [ballot for ballot in standing if by_slot[ballot.slot].kind == "same"]
    first = {ballot.slot: preference(ballot, by_slot[ballot.slot]) for ballot in standing}
    again = [
        (first[slot.repeats], preference(ballot, slot))
        for ballot in standing
        if (slot := by_slot[ballot.slot]).kind == "swap" and slot.repeats is not None and slot.repeats in first
    ]
    return {
        "left": wilson(sum(ballot.choice == LEFT for ballot in picks), len(picks)).model_dump(),
        "same_arm": {
            "pairs": len(same),
            "told_apart": sum(ballot.choice in (LEFT, RIGHT) for ballot in same),
            "left": sum(ballot.choice == LEFT for ballot in same),
        },
        "swapped": wilson(sum(one == two for one, two in again), len(again)).model_dump(),
    }
