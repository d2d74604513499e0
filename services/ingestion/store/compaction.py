"""Small segments, of the inference log and of rows, and their place taken by one object."""

import time
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Table, and_, delete, func, select, update

from libs.contracts.errors import Conflict
from libs.contracts.events import RewrittenSegment, SegmentsRewritten
from libs.outbox.database import Database
from libs.outbox.unit import UnitOfWork
from services.ingestion.store.segments import Listed, Size
from services.ingestion.store.tables import INFERENCE_SEGMENTS, SEGMENTS, Owner, insert

MOST_TOLD = 2000
"""Segments of which one event tells: a thousand take 200 KB."""


_ROW_BYTES = 2048
"""A row, where a segment of before does not say how many bytes it holds."""


async def crowded(database: Database, small: Size, least: int) -> list[Owner]:
    """Tasks with at least `least` segments of the inference log that are `small`."""
    table = INFERENCE_SEGMENTS
    query = (
        select(table.c.tenant, table.c.task)
        .where(_small(table, small))
        .group_by(table.c.tenant, table.c.task)
        .having(func.count() >= least)
    )
    async with database.reading() as session:
        return [(str(row[0]), str(row[1])) for row in (await session.execute(query)).all()]


async def small_segments(database: Database, owner: Owner, small: Size, most: Size) -> list[tuple[str, Size]]:
    """Digest and size of the oldest small segments of a task, together no more than `most`."""
    table = INFERENCE_SEGMENTS
    query = (
        select(table.c.digest, table.c.rows, _bytes(table))
        .where(table.c.tenant == owner[0], table.c.task == owner[1], _small(table, small))
        .order_by(table.c.written_at, table.c.digest)
    )
    async with database.reading() as session:
        listed = [(str(row[0]), Size(int(row[1]), int(row[2]))) for row in (await session.execute(query)).all()]
    taken, whole = list[tuple[str, Size]](), Size(0, 0)
    for digest, size in listed:
        whole += size
        if not whole.within(most):
            break
        taken.append((digest, size))
    return taken


async def replace(unit: UnitOfWork, owner: Owner, old: Sequence[tuple[str, Size]], digest: str) -> None:
    """List `digest` in the place of `old`; Conflict when somebody else replaced one of them first."""
    table = INFERENCE_SEGMENTS
    names = [each for each, _ in old]
    gone = await unit.session.execute(
        delete(table).where(table.c.tenant == owner[0], table.c.task == owner[1], table.c.digest.in_(names))
    )
    if gone.rowcount != len(names):  # type: ignore[attr-defined]
        raise Conflict("somebody else compacted these segments", reason="COMPACTED_TWICE")
    size = sum((each for _, each in old), Size(0, 0))
    values = {"digest": digest, "rows": size.rows, "bytes": size.bytes, "written_at": time.time()}
    await unit.session.execute(insert(unit.session, table).values(tenant=owner[0], task=owner[1], **values))


async def crowded_rows(database: Database, small: Size, least: int, before: float) -> list[Owner]:
    """Tasks with at least `least` objects of `small` segments, written before `before` (epoch seconds)."""
    table = SEGMENTS
    query = (
        select(table.c.tenant, table.c.task)
        .where(_small(table, small), table.c.written_at < before)
        .group_by(table.c.tenant, table.c.task)
        .having(func.count(table.c.digest.distinct()) >= least)
    )
    async with database.reading() as session:
        return [(str(row[0]), str(row[1])) for row in (await session.execute(query)).all()]


async def neighbours(
    database: Database, owner: Owner, small: Size, most: Size, least: int, before: float
) -> list[Listed]:
    """The first segments that follow each other in `least` small objects or more, together up to `most`."""
    table = SEGMENTS
    query = (
        select(table.c.number, table.c.digest, table.c.rows, table.c.written_at, _bytes(table))
        .where(table.c.tenant == owner[0], table.c.task == owner[1], table.c.written_at < before)
        .order_by(table.c.number)
    )
    async with database.reading() as session:
        listed = [
            (Listed(int(row[0]), str(row[1]), int(row[2]), float(row[3])), Size(int(row[2]), int(row[4])))
            for row in await session.execute(query)
        ]
    taken, whole, objects = list[Listed](), Size(0, 0), 0
    for _, group in groupby(listed, key=lambda each: each[0].digest):
        pairs = list(group)
        held, size = [each for each, _ in pairs], sum((each for _, each in pairs), Size(0, 0))
        fits = size.rows < small.rows and size.bytes < small.bytes
        if fits and (whole + size).within(most) and len(taken) + len(held) <= MOST_TOLD:
            taken, whole, objects = taken + held, whole + size, objects + 1
            continue
        if objects >= least:
            break
        taken, whole, objects = (held, size, 1) if fits else ([], Size(0, 0), 0)
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


def _bytes(table: Table) -> Any:
    return func.coalesce(table.c.bytes, table.c.rows * _ROW_BYTES)


def _small(table: Table, small: Size) -> Any:
    return and_(table.c.rows < small.rows, _bytes(table) < small.bytes)
