"""The record of a campaign that anybody can check: order, nonce and the chain of ballots, and whether it holds."""

from collections.abc import Sequence
from typing import Any

from libs.contracts.campaign import Ballot, Slot, audit, text_digest
from services.evaluator.domain.campaign import Campaign, Item, texts


def record_of(
    campaign: Campaign, slots: Sequence[Slot], ballots: Sequence[Ballot], hashes: Sequence[str]
) -> dict[str, Any]:
    """The document that `libs.contracts.campaign.audit` takes. It lays the order open: for closed campaigns."""
    return {
        "campaign_id": campaign.campaign_id,
        "commitment": campaign.commitment,
        "nonce": campaign.nonce,
        "head": campaign.head,
        "slots": [slot.model_dump() for slot in slots],
        "ballots": [
            ballot.model_dump(mode="json") | {"hash": digest} for ballot, digest in zip(ballots, hashes, strict=True)
        ],
    }


def troubles_of(
    campaign: Campaign,
    items: Sequence[Item],
    slots: Sequence[Slot],
    ballots: Sequence[Ballot],
    hashes: Sequence[str],
) -> list[str]:
    """What does not hold of a campaign as it is kept, open or closed: its order, its texts, its chain of ballots."""
    found = audit(record_of(campaign, slots, ballots, hashes))
    by_id = {item.item_id: item for item in items}
    for slot in slots:
        shown = tuple(text_digest(text) for text in texts(by_id[slot.item_id], slot))
        if shown != (slot.left_digest, slot.right_digest):
            found.append(f"pair {slot.number}: its texts are not those that were committed to")
    return found
