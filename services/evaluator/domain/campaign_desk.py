"""Hands out pairs and takes votes: who may see what next, and which entry the chain gets."""

import hmac
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from libs.contracts.campaign import SKIP, UNDO, VOTES, Ballot, Slot, effective
from libs.contracts.errors import AlreadyExists, FailedPrecondition, InvalidInput
from services.evaluator.domain.campaign import OPEN, Campaign

_BETWEEN = 8
"""Votes of a reviewer between a pair and its swapped repeat, while there is anything else to show."""
_MOST_TAGS, _MOST_TEXT = 10, 2000


@dataclass(frozen=True, slots=True)
class Reservation:
    """A pair that one reviewer holds until `until` (seconds since 1970)."""

    slot: int
    reviewer: str
    ticket: str
    until: float


@dataclass(frozen=True, slots=True)
class Cast:
    """A vote as a reviewer gives it."""

    reviewer: str
    ticket: str
    choice: str
    dwell_ms: int = 0
    tags: tuple[str, ...] = ()
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Desk:
    """A campaign as it stands: order, ballots so far and pairs held."""

    campaign: Campaign
    slots: Sequence[Slot]
    ballots: Sequence[Ballot]
    reservations: Mapping[int, Reservation]

    def held(self, reviewer: str, now: float) -> Slot | None:
        """The pair the reviewer holds already."""
        mine = [r.slot for r in self.reservations.values() if r.reviewer == reviewer and r.until > now]
        return self._slot(mine[0]) if mine else None

    def next_slot(self, reviewer: str, now: float) -> Slot | None:
        """The next pair for a reviewer: in order, seen by nobody else at present and never twice by the same person."""
        self.require_open()
        standing = effective(self.ballots)
        voted = {ballot.slot: ballot for ballot in standing if ballot.choice in VOTES}
        mine = [ballot for ballot in standing if ballot.reviewer == reviewer]
        seen = {ballot.item_id for ballot in mine}
        skipped = {ballot.slot for ballot in mine if ballot.choice == SKIP}
        taken = {r.slot for r in self.reservations.values() if r.until > now and r.reviewer != reviewer}
        early: Slot | None = None
        for slot in self.slots:
            if slot.number in voted or slot.number in taken or slot.number in skipped:
                continue
            if slot.kind != "swap":
                if slot.item_id not in seen:
                    return slot
                continue
            first = voted.get(slot.repeats or 0)
            if first is None or first.reviewer != reviewer:
                continue
            if sum(ballot.number > first.number for ballot in mine) >= _BETWEEN:
                return slot
            early = early or slot
        return early

    def cast(self, cast: Cast, now: float) -> tuple[Ballot, bool]:
        """The ballot of a vote and whether it is new.

        Raises InvalidInput for a choice there is not, AlreadyExists for a second, other vote on the same ticket,
        FailedPrecondition when the pair is no longer the reviewer's.
        """
        if cast.choice not in (*VOTES, SKIP):
            raise InvalidInput(f"{cast.choice!r} is none of {', '.join((*VOTES, SKIP))}", field="choice")
        if len(cast.tags) > _MOST_TAGS or len(cast.comment) > _MOST_TEXT or any(len(tag) > 60 for tag in cast.tags):
            raise InvalidInput(f"at most {_MOST_TAGS} tags of 60 and a comment of {_MOST_TEXT} letters", field="tags")
        slot = next((r.slot for r in self.reservations.values() if r.ticket == cast.ticket), None)
        if slot is None:
            return self._again(cast), False
        if self.reservations[slot].reviewer != cast.reviewer:
            raise FailedPrecondition("this pair is another reviewer's", reason="NOT_YOURS", field="ticket")
        self.require_open()
        return self._ballot(self._slot(slot), cast.reviewer, cast.choice, now, cast=cast), True

    def undo(self, reviewer: str, now: float) -> Ballot:
        """The entry that takes the reviewer's last vote back; FailedPrecondition when there is none, or it is too old.

        What was taken into the evidence long ago stays: only within the time of a reservation.
        """
        self.require_open()
        last = next((ballot for ballot in reversed(effective(self.ballots)) if ballot.reviewer == reviewer), None)
        if last is None:
            raise FailedPrecondition("there is no vote of yours to take back", reason="NOTHING_TO_UNDO")
        if now - datetime.fromisoformat(last.at).timestamp() > self.campaign.design.reservation_seconds:
            raise FailedPrecondition("your last vote is too old to be taken back", reason="TOO_LATE_TO_UNDO")
        return self._ballot(self._slot(last.slot), reviewer, UNDO, now, undoes=last.number)

    def require_open(self) -> None:
        """FailedPrecondition once the campaign was closed."""
        if self.campaign.state != OPEN:
            raise FailedPrecondition("the campaign is closed", reason="CLOSED", field="campaign_id")

    def standing_votes(self) -> list[Ballot]:
        """Votes that stand, oldest first, without skips."""
        return [ballot for ballot in effective(self.ballots) if ballot.choice in VOTES]

    def items_done(self) -> int:
        """Items that have all the votes they want."""
        wanted = Counter(slot.item_id for slot in self.slots if slot.kind == "pair")
        pairs = {slot.number for slot in self.slots if slot.kind == "pair"}
        given = Counter(ballot.item_id for ballot in self.standing_votes() if ballot.slot in pairs)
        return sum(given[item] >= count for item, count in wanted.items())

    def _again(self, cast: Cast) -> Ballot:
        """The ballot that this very ticket led to before."""
        mine = [ballot for ballot in self.ballots if ballot.reviewer == cast.reviewer]
        standing = {ballot.number for ballot in effective(mine)}
        for before, ballot in enumerate(mine):
            if (
                ballot.number in standing
                and ticket_of(self.campaign, ballot.slot, cast.reviewer, before) == cast.ticket
            ):
                if ballot.choice == cast.choice:
                    return ballot
                raise AlreadyExists(
                    f"you voted {ballot.choice!r} on this pair; undo it first", reason="VOTED", field="choice"
                )
        raise FailedPrecondition(
            "the reservation ran out and somebody else has this pair; take the next one",
            reason="RESERVATION_LOST",
            field="ticket",
        )

    def ticket(self, slot: Slot, reviewer: str) -> str:
        """The ticket of a pair taken now."""
        return ticket_of(self.campaign, slot.number, reviewer, sum(b.reviewer == reviewer for b in self.ballots))

    def _slot(self, number: int) -> Slot:
        return self.slots[number - 1]

    def _ballot(
        self, slot: Slot, reviewer: str, choice: str, now: float, *, undoes: int | None = None, cast: Cast | None = None
    ) -> Ballot:
        return Ballot(
            number=len(self.ballots) + 1, slot=slot.number, item_id=slot.item_id, reviewer=reviewer, choice=choice,
            left_digest=slot.left_digest, right_digest=slot.right_digest,
            dwell_ms=cast.dwell_ms if cast else 0, tags=cast.tags if cast else (), comment=cast.comment if cast else "",
            at=datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds"), undoes=undoes,
        )  # fmt: skip


def ticket_of(campaign: Campaign, slot: int, reviewer: str, before: int) -> str:
    """What a reviewer hands back with a vote; it says nothing, and each taking of a pair has one of its own."""
    told = f"{campaign.campaign_id}/{slot}/{reviewer}/{before}".encode()
    return hmac.new(campaign.nonce.encode(), told, "sha256").hexdigest()[:32]
