"""Tombstones: whose data was erased, what that touched, and how far it has come."""

import json
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from libs.contracts.errors import Conflict
from libs.outbox.database import Database
from libs.outbox.unit import UnitOfWork
from services.curation.store.dialect import insert, of
from services.curation.store.tables import ERASURES

ASKED, LISTED, DONE = "asked", "listed", "done"
Mark = tuple[str, float, bool]


@dataclass(frozen=True, slots=True)
class Erasure:
    """An erasure: asked for, listed (no build sees the rows any more), done (their objects are gone).

    `touched` names dataset versions with the rows they held; `garbage` are digests still to be deleted.
    """

    tenant: str
    task: str
    user: str
    state: str
    by: str
    reason: str
    asked_at: float
    row_ids: tuple[str, ...] = ()
    touched: list[dict[str, Any]] = field(default_factory=list)
    garbage: tuple[str, ...] = ()

    @property
    def mark(self) -> Mark:
        """What differs once there is more of it to heed: asked for, asked for again, its rows known."""
        return self.user, self.asked_at, self.state == ASKED


async def ask(unit: UnitOfWork, tenant: str, task: str, user: str, *, by: str, reason: str) -> None:
    """Set the tombstone; asking again begins anew, for rows that came since."""
    new = {"state": ASKED, "decided_by": by, "reason": reason, "asked_at": time.time()}
    empty = {"row_ids": "[]", "touched": "[]", "garbage": "[]"}
    statement = insert(unit.session, ERASURES).values(tenant=tenant, task=task, user=user, **new, **empty)
    await unit.session.execute(statement.on_conflict_do_update(index_elements=["tenant", "task", "user"], set_=new))


async def advance(unit: UnitOfWork, erasure: Erasure) -> None:
    """Record how far an erasure has come."""
    await unit.session.execute(
        update(ERASURES)
        .where(of(ERASURES, erasure.tenant, erasure.task), ERASURES.c.user == erasure.user)
        .values(
            state=erasure.state,
            row_ids=json.dumps(sorted(erasure.row_ids)),
            touched=json.dumps(erasure.touched, sort_keys=True),
            garbage=json.dumps(sorted(erasure.garbage)),
        )
    )


async def of_task(database: Database, tenant: str, task: str) -> list[Erasure]:
    """Every erasure of a task, by user."""
    async with database.reading() as session:
        return await _of_task(session, tenant, task)


async def heeded(unit: UnitOfWork, tenant: str, task: str, marks: Collection[Mark]) -> list[Erasure]:
    """Every erasure of a task; Conflict unless these are the marks of all of them, so that what heeded them may stay.

    Writers take turns: until the unit commits nobody is erased.
    """
    found = await _of_task(unit.session, tenant, task)
    if [each.mark for each in found] != list(marks):
        raise Conflict("a subject was erased meanwhile: ask again", reason="ERASED_MEANWHILE")
    return found


async def unfinished(database: Database) -> list[Erasure]:
    """Erasures that a process before this one began."""
    query = select(ERASURES).where(ERASURES.c.state != DONE).order_by(ERASURES.c.asked_at)
    async with database.reading() as session:
        return [_erasure(row) for row in (await session.execute(query)).all()]


async def _of_task(session: AsyncSession, tenant: str, task: str) -> list[Erasure]:
    query = select(ERASURES).where(of(ERASURES, tenant, task)).order_by(ERASURES.c.user)
    return [_erasure(row) for row in (await session.execute(query)).all()]


def _erasure(row: Any) -> Erasure:
    return Erasure(
        row.tenant, row.task, row.user, row.state, row.decided_by, row.reason, row.asked_at,
        tuple(json.loads(row.row_ids)), json.loads(row.touched), tuple(json.loads(row.garbage)),
    )  # fmt: skip
