"""Campaigns with their chained ballots: each vote is one transaction, and nothing voted is ever changed."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from libs.contracts.campaign import Ballot, Slot, seal
from libs.contracts.errors import FailedPrecondition, NotFound
from libs.contracts.events import CampaignClosed, CampaignOpened
from libs.contracts.inference import Message
from libs.outbox.database import Database
from services.evaluator.domain.campaign import CLOSED, OPEN, Campaign, Design, Item, Plan
from services.evaluator.domain.campaign_desk import Cast, Desk, Reservation
from services.evaluator.domain.campaign_record import Everything
from services.evaluator.store.campaign_tables import (
    campaign_ballots,
    campaign_items,
    campaign_judgements,
    campaign_reservations,
    campaign_slots,
    campaigns,
)
from services.evaluator.store.rows import insert_new


@dataclass(frozen=True, slots=True)
class Taken:
    """A pair handed to a reviewer; `slot` is None when there is none left."""

    campaign: Campaign
    slot: Slot | None
    item: Item | None
    ticket: str
    done: int
    held_by_others: int
    seconds: float


class Campaigns:
    """Blind campaigns of all tasks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, campaign: Campaign, plan: Plan, judges: Mapping[str, Mapping[str, float]]) -> None:
        """Keep a campaign with what the report's judges said, and tell its commitment, in one transaction."""
        whose = {"campaign_id": campaign.campaign_id}
        items = [whose | _item_row(place, item) for place, item in enumerate(plan.items)]
        async with self._database.unit() as unit:
            await unit.session.execute(insert(campaigns), [_campaign_row(campaign)])
            await unit.session.execute(insert(campaign_items), items)
            await unit.session.execute(insert(campaign_slots), [whose | slot.model_dump() for slot in plan.slots])
            for judge, given in judges.items():
                await unit.session.execute(
                    insert(campaign_judgements), _judged_rows(campaign.campaign_id, judge, given)
                )
            opened = CampaignOpened(
                tenant=campaign.tenant, task=campaign.task, campaign_id=campaign.campaign_id,
                report_id=campaign.report_id, commitment=campaign.commitment,
            )  # fmt: skip
            unit.emit(opened, output="opened", key=campaign.campaign_id)

    async def take(self, campaign_id: str, reviewer: str) -> Taken:
        """Reserve the next pair for a reviewer, or give the one that is held already."""
        async with self._database.transaction() as session:
            return await self._take(session, await _desk(session, campaign_id), reviewer, time.time())

    async def cast(self, campaign_id: str, cast: Cast) -> tuple[int, str]:
        """Append a vote and free its reservation; number and hash of the ballot (the same for the same vote again)."""
        async with self._database.transaction() as session:
            desk = await _desk(session, campaign_id)
            ballot, new = desk.cast(cast, time.time())
            if not new:
                mine = (campaign_ballots.c.campaign_id == campaign_id, campaign_ballots.c.number == ballot.number)
                held = await session.scalar(select(campaign_ballots.c.hash).where(*mine))
                return ballot.number, str(held)
            await session.execute(delete(campaign_reservations).where(*_slot_of(campaign_id, ballot.slot)))
            return ballot.number, await _append(session, desk.campaign, ballot)

    async def undo(self, campaign_id: str, reviewer: str) -> Taken:
        """Append the entry that takes the reviewer's last vote back, and reserve its pair for the reviewer again."""
        now = time.time()
        async with self._database.transaction() as session:
            desk = await _desk(session, campaign_id)
            entry = desk.undo(reviewer, now)
            await _append(session, desk.campaign, entry)
            # What the reviewer held meanwhile goes back to the others.
            mine = (campaign_reservations.c.campaign_id == campaign_id, campaign_reservations.c.reviewer == reviewer)
            await session.execute(delete(campaign_reservations).where(*mine))
            desk = await _desk(session, campaign_id)
            return await self._take(session, desk, reviewer, now, desk.slots[entry.slot - 1])

    async def close(self, campaign_id: str) -> Campaign:
        """End a campaign and tell the head of its chain; closing twice changes nothing."""
        async with self._database.unit() as unit:
            campaign = await _campaign(unit.session, campaign_id)
            if campaign.state == CLOSED:
                return campaign
            now = time.time()
            change = update(campaigns).where(campaigns.c.campaign_id == campaign_id)
            await unit.session.execute(change.values(state=CLOSED, closed_at=now))
            gone = campaign_reservations.c.campaign_id == campaign_id
            await unit.session.execute(delete(campaign_reservations).where(gone))
            count = await unit.session.scalar(
                select(func.count()).select_from(campaign_ballots).where(campaign_ballots.c.campaign_id == campaign_id)
            )
            closed = CampaignClosed(
                tenant=campaign.tenant, task=campaign.task, campaign_id=campaign_id, commitment=campaign.commitment,
                head=campaign.head, ballots=int(count or 0),
            )  # fmt: skip
            unit.emit(closed, output="closed", key=campaign_id)
            return await _campaign(unit.session, campaign_id)

    async def judge(self, campaign_id: str, judge: str, preferences: dict[str, float]) -> int:
        """Add a judge's preferences; those given before stay. NotFound names an item that is not the campaign's."""
        async with self._database.transaction() as session:
            await _campaign(session, campaign_id)
            mine = select(campaign_items.c.item_id).where(campaign_items.c.campaign_id == campaign_id)
            known = {item for (item,) in await session.execute(mine)}
            strange = next((item for item in preferences if item not in known), None)
            if strange is not None:
                raise NotFound(f"item {strange!r} is not part of campaign {campaign_id}", field="judgements.item_id")
            rows = _judged_rows(campaign_id, judge, preferences)
            before = await session.scalar(_judged(campaign_id, judge)) or 0
            if rows:
                await session.execute(insert_new(session, campaign_judgements), rows)
            return int(await session.scalar(_judged(campaign_id, judge)) or 0) - int(before)

    async def everything(self, campaign_id: str) -> Everything:
        """A campaign with all that belongs to it; NotFound when there is none of that id."""
        async with self._database.reading() as session:
            desk = await _desk(session, campaign_id)
            items = await session.execute(
                select(campaign_items)
                .where(campaign_items.c.campaign_id == campaign_id)
                .order_by(campaign_items.c.place)
            )
            hashes = await session.execute(
                select(campaign_ballots.c.hash)
                .where(campaign_ballots.c.campaign_id == campaign_id)
                .order_by(campaign_ballots.c.number)
            )
            judgements: dict[str, dict[str, float]] = {}
            given = select(campaign_judgements).where(campaign_judgements.c.campaign_id == campaign_id)
            for row in await session.execute(given.order_by(campaign_judgements.c.item_id)):
                judgements.setdefault(row.judge, {})[row.item_id] = row.preference
            return Everything(
                desk.campaign, tuple(_item(row) for row in items), tuple(desk.slots), tuple(desk.ballots),
                tuple(value for (value,) in hashes), judgements,
            )  # fmt: skip

    async def desk(self, campaign_id: str) -> Desk:
        """How a campaign stands; NotFound when there is none of that id."""
        async with self._database.reading() as session:
            return await _desk(session, campaign_id)

    async def listed(self, task: str, limit: int = 200) -> list[Campaign]:
        """Campaigns of a task (of all when empty), newest first."""
        query = select(campaigns).order_by(campaigns.c.opened_at.desc(), campaigns.c.campaign_id).limit(limit)
        async with self._database.reading() as session:
            rows = await session.execute(query.where(campaigns.c.task == task) if task else query)
            return [_campaign_of(row) for row in rows]

    async def _take(
        self, session: AsyncSession, desk: Desk, reviewer: str, now: float, wanted: Slot | None = None
    ) -> Taken:
        held = desk.held(reviewer, now) if wanted is None else None
        slot = wanted or held or desk.next_slot(reviewer, now)
        voted = sum(ballot.reviewer == reviewer for ballot in desk.standing_votes())
        others = sum(r.until > now and r.reviewer != reviewer for r in desk.reservations.values())
        seconds = desk.campaign.design.reservation_seconds
        if slot is None:
            return Taken(desk.campaign, None, None, "", voted, others, 0.0)
        ticket = desk.reservations[slot.number].ticket if held is not None else desk.ticket(slot, reviewer)
        if held is None:
            await session.execute(
                delete(campaign_reservations).where(*_slot_of(desk.campaign.campaign_id, slot.number))
            )
            row = {"slot": slot.number, "reviewer": reviewer, "ticket": ticket, "until": now + seconds}
            await session.execute(insert(campaign_reservations), [{"campaign_id": desk.campaign.campaign_id, **row}])
        else:
            seconds = desk.reservations[slot.number].until - now
        mine = (campaign_items.c.campaign_id == desk.campaign.campaign_id, campaign_items.c.item_id == slot.item_id)
        found = (await session.execute(select(campaign_items).where(*mine))).one()
        return Taken(desk.campaign, slot, _item(found), ticket, voted, others, seconds)


async def _desk(session: AsyncSession, campaign_id: str) -> Desk:
    campaign = await _campaign(session, campaign_id)
    slots = await session.execute(
        select(campaign_slots).where(campaign_slots.c.campaign_id == campaign_id).order_by(campaign_slots.c.number)
    )
    ballots = await session.execute(
        select(campaign_ballots.c.document)
        .where(campaign_ballots.c.campaign_id == campaign_id)
        .order_by(campaign_ballots.c.number)
    )
    held = await session.execute(
        select(campaign_reservations).where(campaign_reservations.c.campaign_id == campaign_id)
    )
    return Desk(
        campaign,
        [Slot.model_validate(dict(row)) for row in slots.mappings()],
        [Ballot.model_validate(document) for (document,) in ballots],
        {row.slot: Reservation(row.slot, row.reviewer, row.ticket, row.until) for row in held},
    )


async def _append(session: AsyncSession, campaign: Campaign, ballot: Ballot) -> str:
    """Chain a ballot to the newest one; a second writer of the same number is stopped by the key."""
    digest = seal(campaign.head, ballot)
    row = {"campaign_id": campaign.campaign_id, "number": ballot.number, "hash": digest}
    await session.execute(insert(campaign_ballots), [{**row, "document": ballot.model_dump(mode="json")}])
    change = update(campaigns).where(
        campaigns.c.campaign_id == campaign.campaign_id,
        campaigns.c.head == campaign.head,
        campaigns.c.state == OPEN,
    )
    result: Any = await session.execute(change.values(head=digest))
    if result.rowcount != 1:
        raise FailedPrecondition("the campaign is closed", reason="CLOSED", field="campaign_id")
    return digest


async def _campaign(session: AsyncSession, campaign_id: str) -> Campaign:
    row = (await session.execute(select(campaigns).where(campaigns.c.campaign_id == campaign_id))).one_or_none()
    if row is None:
        raise NotFound(f"no campaign {campaign_id!r}", field="campaign_id")
    return _campaign_of(row)


def _judged_rows(campaign_id: str, judge: str, given: Mapping[str, float]) -> list[dict[str, Any]]:
    whose = {"campaign_id": campaign_id, "judge": judge, "added_at": time.time()}
    return [{**whose, "item_id": item, "preference": value} for item, value in given.items()]


def _judged(campaign_id: str, judge: str) -> Any:
    mine = (campaign_judgements.c.campaign_id == campaign_id, campaign_judgements.c.judge == judge)
    return select(func.count()).select_from(campaign_judgements).where(*mine)


def _slot_of(campaign_id: str, slot: int) -> Sequence[Any]:
    return campaign_reservations.c.campaign_id == campaign_id, campaign_reservations.c.slot == slot


def _campaign_row(campaign: Campaign) -> dict[str, Any]:
    return {**{name: getattr(campaign, name) for name in Campaign.__slots__}, "design": asdict(campaign.design)}


def _campaign_of(row: Row[Any]) -> Campaign:
    known = {name: getattr(row, name) for name in Campaign.__slots__}
    return Campaign(**{**known, "design": Design(**row.design)})


def _item_row(place: int, item: Item) -> dict[str, Any]:
    return {
        "item_id": item.item_id,
        "place": place,
        "category": item.category,
        "cluster": item.group,
        "messages": [message.model_dump() for message in item.messages],
        "treatment": item.treatment,
        "control": item.control,
        "agreed": item.agreed,
        "wanted": item.wanted,
    }


def _item(row: Row[Any]) -> Item:
    messages = tuple(Message.model_validate(message) for message in row.messages)
    return Item(
        row.item_id, row.category, row.cluster, messages, row.treatment, row.control, row.agreed, row.wanted
    )  # fmt: skip
