"""What the database holds of a subject, and segments in the place of those that held it."""

import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import delete, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from libs.contracts.errors import Conflict
from libs.outbox.database import Database
from libs.outbox.tables import inbox_table
from libs.outbox.unit import UnitOfWork
from services.ingestion.domain.judgement import Said, unsaid
from services.ingestion.domain.rows import hashed_user
from services.ingestion.domain.wire import recalled
from services.ingestion.store.staged import RUNNING
from services.ingestion.store.tables import (
    IMPORTS,
    INFERENCE_SEGMENTS,
    INFERENCES,
    METADATA,
    QUARANTINE,
    SAID,
    SEGMENTS,
    WAITING,
    Owner,
    insert,
)

ERASURES = "ingestion-erasures"
_CHUNK = 500

Mark = tuple[int, float]
"""Another one after every erasure, whichever replica did it."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """A segment and the one in its place; `number` is None for one of the inference log, `after` for one left empty."""

    number: int | None
    before: str
    after: str | None
    rows: int
    bytes: int | None = None
    """Of the one in its place, its columns unpacked, where `number` is None."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """The quarantine of an import and the one in its place; `rows` are those that lost their record."""

    import_id: str
    before: str
    after: str
    rows: Sequence[int]


async def mark(database: Database) -> Mark:
    """How far erasures are; to be read before anything that one may take away."""
    async with database.reading() as session:
        return await _mark(session)


async def none_since(unit: UnitOfWork, before: Mark) -> None:
    """Conflict where a subject was erased since: what was read before may be his."""
    if await _mark(unit.session) != before:
        raise Conflict("a subject was erased meanwhile", reason="ERASED_MEANWHILE")


async def _mark(session: AsyncSession) -> Mark:
    table = inbox_table(METADATA)
    query = select(func.count(), func.max(table.c.handled_at)).where(table.c.consumer == ERASURES)
    count, last = (await session.execute(query)).one()
    return int(count), float(last or 0.0)


async def begun_before(database: Database, owner: Owner, at: float) -> str | None:
    """The file of an import of the task that was begun before `at` (epoch seconds) and has not ended; None for none."""
    table = IMPORTS
    query = select(table.c.name).where(
        table.c.tenant == owner[0], table.c.task == owner[1], table.c.state == RUNNING, table.c.started_at <= at
    )
    async with database.reading() as session:
        name = await session.scalar(query.order_by(table.c.started_at).limit(1))
    return None if name is None else str(name)


async def quarantines(database: Database, owner: Owner) -> list[tuple[str, str]]:
    """Import and digest of every quarantine of the task."""
    table = IMPORTS
    query = (
        select(table.c.import_id, table.c.quarantine)
        .where(table.c.tenant == owner[0], table.c.task == owner[1], table.c.quarantine.is_not(None))
        .order_by(table.c.import_id)
    )
    async with database.reading() as session:
        return [(str(row[0]), str(row[1])) for row in (await session.execute(query)).all()]


async def clear(unit: UnitOfWork, cleared: Sequence[Cleared], reason: str) -> None:
    """List quarantines in the place of others; Conflict when one of those is not listed any more."""
    for each in cleared:
        mine = (IMPORTS.c.import_id == each.import_id, IMPORTS.c.quarantine == each.before)
        done = await unit.session.execute(update(IMPORTS).where(*mine).values(quarantine=each.after))
        if done.rowcount != 1:  # type: ignore[attr-defined]
            raise Conflict(f"the quarantine of {each.import_id} is not listed any more", reason="QUARANTINE_MOVED")
        for at in range(0, len(each.rows), _CHUNK):
            # What was wrong with a record is told in its own words.
            rows = (QUARANTINE.c.import_id == each.import_id, QUARANTINE.c.row.in_(each.rows[at : at + _CHUNK]))
            await unit.session.execute(update(QUARANTINE).where(*rows).values(field="", reason=reason))


async def inference_segments(database: Database, owner: Owner) -> list[str]:
    """Digests of the task's inference log."""
    table = INFERENCE_SEGMENTS
    query = select(table.c.digest).where(table.c.tenant == owner[0], table.c.task == owner[1]).order_by(table.c.digest)
    async with database.reading() as session:
        return [str(each) for each in (await session.execute(query)).scalars()]


async def units_of(database: Database, owner: Owner, user: str) -> list[str]:
    """The units of logged inferences that are this user."""
    table = INFERENCES
    query = select(table.c.unit).where(table.c.tenant == owner[0], table.c.task == owner[1]).distinct()
    async with database.reading() as session:
        return [unit for unit in (await session.execute(query)).scalars() if hashed_user(owner[0], unit) == user]


async def replace(unit: UnitOfWork, owner: Owner, replaced: Sequence[Replaced]) -> None:
    """List segments in the place of others; Conflict when one of those is not listed any more."""
    for each in replaced:
        table = INFERENCE_SEGMENTS if each.number is None else SEGMENTS
        mine = (table.c.tenant == owner[0], table.c.task == owner[1], table.c.digest == each.before)
        if each.number is None:
            done = await unit.session.execute(delete(table).where(*mine))
            if each.after is not None:
                values = {"digest": each.after, "rows": each.rows, "bytes": each.bytes, "written_at": time.time()}
                await unit.session.execute(insert(unit.session, table).values(tenant=owner[0], task=owner[1], **values))
        else:
            values = {"digest": each.after, "rows": each.rows}
            done = await unit.session.execute(
                update(table).where(*mine, table.c.number == each.number).values(**values)
            )
        if done.rowcount != 1:  # type: ignore[attr-defined]
            raise Conflict(f"segment {each.before} is not listed any more", reason="SEGMENT_MOVED")


async def forget(
    unit: UnitOfWork,
    owner: Owner,
    user: str,
    units: Collection[str],
    responses: Mapping[bytes, bool],
    asked: Collection[str],
) -> None:
    """Drop the user's inferences, his waiting signals and those on what he `asked`.

    What he said on `responses` stays as a word nobody said; where True, they answered him, and
    so does all that was said of them.
    """
    session = unit.session
    mine = (INFERENCES.c.tenant == owner[0], INFERENCES.c.task == owner[1])
    for name in units:
        await session.execute(delete(INFERENCES).where(*mine, INFERENCES.c.unit == name))
    wanted = sorted(responses)
    for at in range(0, len(wanted), _CHUNK):
        query = select(SAID).where(SAID.c.response.in_(wanted[at : at + _CHUNK]))
        for row in (await session.execute(query)).all():
            word = msgspec.json.decode(row.said, type=Said)
            if word.user == user or responses[bytes(row.response)]:
                place = (SAID.c.response == row.response, SAID.c.revision == row.revision)
                blank = msgspec.json.encode(unsaid(word))
                await session.execute(update(SAID).where(*place).values(said=blank))
    async for row in _waiting(session, owner):
        words = recalled(row.payload.encode())
        if hashed_user(owner[0], words.user) == user or words.request_id in asked:
            place = (WAITING.c.source == row.source, WAITING.c.id == row.id)
            await session.execute(
                delete(WAITING).where(WAITING.c.tenant == owner[0], WAITING.c.task == owner[1], *place)
            )


async def _waiting(session: AsyncSession, owner: Owner) -> AsyncIterator[Any]:
    """Every signal of the task that waits, a page in memory at a time."""
    place = (WAITING.c.source, WAITING.c.id)
    query = select(*place, WAITING.c.payload).where(WAITING.c.tenant == owner[0], WAITING.c.task == owner[1])
    after = ("", "")
    while page := (await session.execute(query.where(tuple_(*place) > after).order_by(*place).limit(_CHUNK))).all():
        for row in page:
            yield row
        after = page[-1].source, page[-1].id
