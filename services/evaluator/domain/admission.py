"""How a judge stands with experts: whether its word may count, and by how much it may favour an arm."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from services.evaluator.domain.campaign_record import Everything
from services.evaluator.domain.campaign_standing import standing_of


@dataclass(frozen=True, slots=True)
class Standing:
    """What experts' votes say of a judge: why it is not to be believed, or None, and how much it may favour an arm.

    `tilt` is on the scale of the metric's differences: the farther end of the interval of judge less experts. `seen`
    says which votes this rests on, so that it can be computed again; None where no campaign was asked.
    """

    doubt: str | None
    tilt: float = 0.0
    seen: Mapping[str, Any] | None = None


def standing_with(whole: Everything, name: str, kind: str) -> Standing:
    """How the judge `name`, of a metric of `kind`, stands with the votes of a campaign so far."""
    campaign = whole.campaign
    seen = {
        "campaign": campaign.campaign_id,
        "head": campaign.head,
        "state": campaign.state,
        "judgements": len(whole.judgements.get(name, {})),
    }
    told = standing_of(campaign, whole.items, whole.slots, whole.ballots, whole.judgements)
    judged = told["judges"].get(name)
    if judged is None:
        return Standing(f"campaign {campaign.campaign_id} holds no judgements by {name!r}", seen=seen)
    if not judged["admitted"]:
        return Standing(f"campaign {campaign.campaign_id}: {judged['reason']}", seen=seen)
    bias = max(abs(judged["bias"]["low"]), abs(judged["bias"]["high"]))
    # A preference is half of one and half the difference of two grades.
    return Standing(None, 2.0 * bias if kind == "judge" else bias, seen)


def recheck(told: Mapping[str, Any], whole: Everything, name: str, kind: str) -> list[str]:
    """Where what a report told of a judge differs from what the votes that it rests on say again; empty when equal.

    Judgements are added and never changed: once more of them are there, what was told cannot be computed again, and
    nothing is found.
    """
    seen = told["seen"]
    heads = [whole.campaign.commitment, *whole.hashes]
    if seen["head"] not in heads:
        return [f"{name}: campaign {seen['campaign']} does not hold the votes that the judge was calibrated by"]
    if len(whole.judgements.get(name, {})) != seen["judgements"]:
        return []
    count = heads.index(seen["head"])
    then = replace(
        whole,
        campaign=replace(whole.campaign, state=seen["state"], head=seen["head"]),
        ballots=whole.ballots[:count],
        hashes=whole.hashes[:count],
    )
    again = standing_with(then, name, kind)
    if again.doubt != told["doubt"]:
        return [f"{name}: published as {told['doubt'] or 'admitted'!r}, recomputed {again.doubt or 'admitted'!r}"]
    if not math.isclose(again.tilt, told["tilt"], rel_tol=1e-9):
        return [f"{name}: may favour an arm by {told['tilt']} as published, by {again.tilt} as recomputed"]
    return []
