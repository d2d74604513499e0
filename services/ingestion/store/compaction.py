"""Small segments, of the inference log and of rows, and their place taken by one object."""

import time
from collections.abc import Sequence
from itertools import groupby

from sqlalchemy import delete, func, select, update

from libs.contracts.errors import Conflict
from libs.contracts.events import RewrittenSegment, SegmentsRewritten
from libs.outbox.database import Database
from libs.outbox.unit import UnitOfWork
from services.ingestion.store.segments import Listed
from services.ingestion.store.tables import INFERENCE_SEGMENTS, SEGMENTS, Owner, insert

MOST_TOLD = 2000
"""Segments of which one event tells: a thousand take 200 KB."""


async def crowded(database: Database, small: int, least: int) -> list[Owner]:
    """Tasks with at least `least` segments of fewer than `small` rows each."""
    table = INFERENCE_SEGMENTS
    query = (
        select(table.c.tenant, table.c.task)
        .where(table.c.rows < small)
        .group_by(table.c.tenant, table.c.task)
        .having(func.count() >= least)
    )
    async with database.reading() as session:
        return [(str(row[0]), str(row[1])) for row in (await session.execute(query)).all()]


async def small_segments(database: Database, owner: Owner, small: int, most: int) -> list[tuple[str, int]]:
    """Digest and rows of the oldest small segments of a task, together no more than `most` rows."""
    table = INFERENCE_SEGMENTS
    query = (
        select(table.c.digest, table.c.rows)
        .where(table.c.tenant == owner[0], table.c.task == owner[1], table.c.rows < small)
        .order_by(table.c.written_at, table.c.digest)
    )
    async with database.reading() as session:
        listed = [(str(row[0]), int(row[1])) for row in (await session.execute(query)).all()]
    taken, rows = list[tuple[str, int]](), 0
    for digest, size in listed:
        if rows + size > most:
            break
        taken.append((digest, size))
        rows += size
    return taken


async def replace(unit: UnitOfWork, owner: Owner, old: Sequence[tuple[str, int]], digest: str) -> None:
    """List `digest` in the place of `old`; Conflict when somebody else replaced one of them first."""
    table = INFERENCE_SEGMENTS
    names = [each for each, _ in old]
    gone = await unit.session.execute(
        delete(table).where(table.c.tenant == owner[0], table.c.task == owner[1], table.c.digest.in_(names))
    )
    if gone.rowcount != len(names):  # type: ignore[attr-defined]
        raise Conflict("somebody else compacted these segments", reason="COMPACTED_TWICE")
    rows = sum(size for _, size in old)
    values = {"tenant": owner[0], "task": owner[1], "digest": digest, "rows": rows, "written_at": time.time()}
    await unit.session.execute(insert(unit.session, table).values(**values))


async def crowded_rows(database: Database, small: int, least: int, before: float) -> list[Owner]:
    """Tasks with at least `least` objects of segments below `small` rows, written before `before` (epoch seconds)."""
    table = SEGMENTS
    query = (
        select(table.c.tenant, table.c.task)
        .where(table.c.rows < small, table.c.written_at < before)
        .group_by(table.c.tenant, table.c.task)
        .having(func.count(table.c.digest.distinct()) >= least)
    )
    async with database.reading() as session:
        return [(str(row[0]), str(row[1])) for row in (await session.execute(query)).all()]


async def neighbours(
    database: Database, owner: Owner, small: int, most: int, least: int, before: float
) -> list[Listed]:
    """The first segments that follow each other in `least` small objects or more, together up to `most` rows."""
    table = SEGMENTS
    query = (
        select(table.c.number, table.c.digest, table.c.rows, table.c.written_at)
        .where(table.c.tenant == owner[0], table.c.task == owner[1], table.c.written_at < before)
        .order_by(table.c.number)
    )
    async with database.reading() as session:
        listed = [Listed(int(row[0]), str(row[1]), int(row[2]), float(row[3])) for row in await session.execute(query)]
    taken, rows, objects = list[Listed](), 0, 0
    for _, group in groupby(listed, key=lambda each: each.digest):
        held = list(group)
        size = sum(each.rows for each in held)
        if size < small and rows + size <= most and len(taken) + len(held) <= MOST_TOLD:
            taken, rows, objects = taken + held, rows + size, objects + 1
            continue
        if objects >= least:
            break
        taken, rows, objects = (held, size, 1) if size < small else ([], 0, 0)
    return taken if objects >= least else []


async def relist(unit: UnitOfWork, owner: Owner, segments: Sequence[Listed], digest: str) -> None:
    """Say that these segments lie in `digest` from now on; Conflict when one of them moved meanwhile."""
    for each in segments:
        mine = (SEGMENTS.c.tenant == owner[0], SEGMENTS.c.task == owner[1], SEGMENTS.c.number == each.number)
        moved = update(SEGMENTS).where(*mine, SEGMENTS.c.digest == each.digest).values(digest=digest)
        if (await unit.session.execute(moved)).rowcount != 1:  # type: ignore[attr-defined]
            raise Conflict(f"segment {each.number} of {owner[1]} moved meanwhile", reason="SEGMENT_MOVED")
    told = tuple(RewrittenSegment(number=each.number, before=each.digest, after=digest) for each in segments)
    fact = SegmentsRewritten(tenant=owner[0], task=owner[1], segments=told)
    unit.emit(fact, output="together", key=f"{owner[0]}/{owner[1]}/{digest}")
