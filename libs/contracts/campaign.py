"""What a blind campaign promises to anybody who wants to check it: the committed order and the chain of ballots."""

import hmac
import json
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from libs.contracts.ids import digest_bytes

Side = Literal["left", "right"]
Kind = Literal["pair", "same", "swap"]

LEFT, RIGHT, TIE, BOTH_BAD, SKIP, UNDO = "left", "right", "tie", "both_bad", "skip", "undo"
VOTES = (LEFT, RIGHT, TIE, BOTH_BAD)
"""Choices that say something about the two answers."""


class Slot(BaseModel):
    """One presentation in the order of a campaign: `treatment` is the side its answer stands on.

    `pair` compares the arms, `same` shows one answer twice, `swap` shows slot `repeats` again to whoever voted on it,
    with the sides exchanged. The digests are those of the two texts as shown.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    item_id: str
    kind: Kind
    treatment: Side
    left_digest: str
    right_digest: str
    repeats: int | None = None


class Ballot(BaseModel):
    """One entry of the chain: a vote, a skip, or an undo that takes entry `undoes` back. `at` is RFC 3339 UTC."""

    model_config = ConfigDict(frozen=True)

    number: int
    slot: int
    item_id: str
    reviewer: str
    choice: str
    left_digest: str
    right_digest: str
    dwell_ms: int
    tags: tuple[str, ...] = ()
    comment: str = ""
    at: str
    undoes: int | None = None


def text_digest(text: str) -> str:
    """Digest of a text as shown."""
    return digest_bytes(text.encode())


def commitment(nonce: str, slots: Sequence[Slot]) -> str:
    """What is told before the first vote: it fixes order, sides and texts without showing any of them."""
    return digest_bytes(_canonical({"nonce": nonce, "slots": [slot.model_dump() for slot in slots]}))


def seal(previous: str, ballot: Ballot) -> str:
    """Hash of a ballot, chained to the one before it; the first follows the commitment."""
    return digest_bytes(previous.encode() + b"\n" + _canonical(ballot.model_dump()))


def effective(ballots: Iterable[Ballot]) -> list[Ballot]:
    """Ballots that stand, oldest first: no undos and nothing undone."""
    kept: dict[int, Ballot] = {}
    for ballot in ballots:
        if ballot.undoes is not None:
            kept.pop(ballot.undoes, None)
        else:
            kept[ballot.number] = ballot
    return list(kept.values())


def audit(document: dict[str, Any]) -> list[str]:
    """What is wrong with the audit document of a closed campaign; empty when everything holds.

    Args:
        document: `commitment`, `nonce`, `slots`, `ballots` (each with its `hash`) and `head`, as `GetAudit` gives it.
    """
    slots = [Slot.model_validate(row) for row in document["slots"]]
    troubles = []
    if not hmac.compare_digest(commitment(document["nonce"], slots), document["commitment"]):
        troubles.append("the order is not the one that was committed to")
    by_number = {slot.number: slot for slot in slots}
    head: str = document["commitment"]
    standing: dict[int, Ballot] = {}
    for place, row in enumerate(document["ballots"], 1):
        ballot = Ballot.model_validate(row)
        head = seal(head, ballot)
        if ballot.number != place or row["hash"] != head:
            troubles.append(f"ballot {place}: the chain is broken")
            break
        trouble = _misplaced(ballot, by_number.get(ballot.slot), standing)
        if trouble:
            troubles.append(f"ballot {place}: {trouble}")
        if ballot.undoes is None:
            standing[ballot.number] = ballot
        else:
            standing.pop(ballot.undoes, None)
    if head != document["head"]:
        troubles.append("the chain does not end at the head that was published")
    return troubles


def _misplaced(ballot: Ballot, slot: Slot | None, standing: dict[int, Ballot]) -> str | None:
    if slot is None or slot.item_id != ballot.item_id:
        return f"slot {ballot.slot} of the order is not about {ballot.item_id!r}"
    if (slot.left_digest, slot.right_digest) != (ballot.left_digest, ballot.right_digest):
        return f"slot {ballot.slot} was shown with other texts, or on other sides, than committed"
    if ballot.undoes is not None:
        undone = standing.get(ballot.undoes)
        return None if undone is not None and undone.reviewer == ballot.reviewer else "it undoes what does not stand"
    if ballot.choice in VOTES and any(b.slot == ballot.slot and b.choice in VOTES for b in standing.values()):
        return f"slot {ballot.slot} has a vote already"
    return None


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
