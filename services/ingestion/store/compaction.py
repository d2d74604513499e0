"""Small segments of the inference log, and their place taken by one."""

import time
from collections.abc import Sequence

from sqlalchemy import delete, func, select

from libs.contracts.errors import Conflict
from libs.outbox.database import Database
from libs.outbox.unit import UnitOfWork
from services.ingestion.store.signals import Owner
from services.ingestion.store.tables import INFERENCE_SEGMENTS, insert


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
