"""A campaign whole, the record of it that anybody can check, and whether that holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from libs.contracts.campaign import Ballot, Slot, audit, text_digest
from services.evaluator.domain.campaign import Campaign, Item, texts


@dataclass(frozen=True, slots=True)
class Everything:
    """A campaign whole: what a standing or an audit is made of. `hashes` are those of the ballots, in their order."""

    campaign: Campaign
    items: tuple[Item, ...]
    slots: tuple[Slot, ...]
    ballots: tuple[Ballot, ...]
    hashes: tuple[str, ...]
    judgements: Mapping[str, Mapping[str, float]]


def record_of(whole: Everything) -> dict[str, Any]:
    """The document that `libs.contracts.campaign.audit` takes. It lays the order open: for closed campaigns."""
    return {
        "campaign_id": whole.campaign.campaign_id,
        "commitment": whole.campaign.commitment,
        "nonce": whole.campaign.nonce,
        "head": whole.campaign.head,
        "slots": [slot.model_dump() for slot in whole.slots],
        "ballots": [
            ballot.model_dump(mode="json") | {"hash": digest}
            for ballot, digest in zip(whole.ballots, whole.hashes, strict=True)
        ],
    }


def troubles_of(whole: Everything) -> list[str]:
    """What does not hold of a campaign as it is kept, open or closed: its order, its texts, its chain of ballots."""
    found = audit(record_of(whole))
    by_id = {item.item_id: item for item in whole.items}
    for slot in whole.slots:
        shown = tuple(text_digest(text) for text in texts(by_id[slot.item_id], slot))
        if shown != (slot.left_digest, slot.right_digest):
            found.append(f"pair {slot.number}: its texts are not those that were committed to")
    return found
