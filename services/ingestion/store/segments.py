"""Lists segments: a segment exists once it has its number, and numbers of a task have no gaps."""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update

from libs.contracts.events import SegmentWritten
from libs.outbox.database import Database
from libs.outbox.unit import UnitOfWork
from services.ingestion.domain.rows import Counts
from services.ingestion.store.tables import INTAKES, KINDS, SEGMENTS, insert


@dataclass(frozen=True, slots=True)
class Stored:
    """A segment that lies in object storage and is not listed yet; `bytes` are those of its columns unpacked."""

    digest: str
    rows: int
    bytes: int
    counts: Counts


@dataclass(frozen=True, slots=True)
class Size:
    """How large a segment is, or may be; `bytes` are those of its columns unpacked."""

    rows: int
    bytes: int

    def __add__(self, other: "Size") -> "Size":
        return Size(self.rows + other.rows, self.bytes + other.bytes)

    def within(self, most: "Size") -> bool:
        """Whether neither is more."""
        return self.rows <= most.rows and self.bytes <= most.bytes


@dataclass(frozen=True, slots=True)
class Listed:
    """A listed segment; `written_at` in epoch seconds."""

    number: int
    digest: str
    rows: int
    written_at: float


@dataclass(frozen=True, slots=True)
class Intake:
    """What arrived for a task: distinct signals and examples per kind, and the last segment's number."""

    kinds: dict[str, int]
    duplicates: int
    rejected: int
    waiting: int
    watermark: int


async def list_segment(
    unit: UnitOfWork,
    tenant: str,
    task: str,
    stored: Stored,
    *,
    import_id: str | None = None,
    traceparent: str | None = None,
) -> int:
    """Give a stored segment the task's next number and say so; returns the number."""
    session = unit.session
    statement = insert(session, INTAKES).values(tenant=tenant, task=task, watermark=0, duplicates=0)
    await session.execute(statement.on_conflict_do_nothing())
    advance = (
        update(INTAKES)
        .where(INTAKES.c.tenant == tenant, INTAKES.c.task == task)
        .values(watermark=INTAKES.c.watermark + 1)
        .returning(INTAKES.c.watermark)
    )
    number = int((await session.execute(advance)).scalar_one())
    await session.execute(
        insert(session, SEGMENTS).values(
            tenant=tenant, task=task, number=number, digest=stored.digest, rows=stored.rows,
            import_id=import_id, written_at=time.time(), bytes=stored.bytes,
        )
    )  # fmt: skip
    await add_kinds(unit, tenant, task, stored.counts.kinds)
    fact = SegmentWritten(
        tenant=tenant,
        task=task,
        number=number,
        digest=stored.digest,
        rows=stored.rows,
        kinds=stored.counts.kinds,
        sources=stored.counts.sources,
        corrections=stored.counts.corrections,
        categories=stored.counts.categories,
        import_id=import_id,
    )
    unit.emit(fact, output="segment", key=f"{tenant}/{task}/{number}", traceparent=traceparent)
    return number


async def add_kinds(unit: UnitOfWork, tenant: str, task: str, kinds: dict[str, int]) -> None:
    """Add to the counts of what was kept."""
    for kind, counted in kinds.items():
        statement = insert(unit.session, KINDS).values(tenant=tenant, task=task, kind=kind, counted=counted)
        await unit.session.execute(
            statement.on_conflict_do_update(
                index_elements=["tenant", "task", "kind"], set_={"counted": KINDS.c.counted + counted}
            )
        )


async def add_duplicates(unit: UnitOfWork, tenant: str, task: str, duplicates: int) -> None:
    """Add to the count of signals that were seen before."""
    statement = insert(unit.session, INTAKES).values(tenant=tenant, task=task, watermark=0, duplicates=duplicates)
    await unit.session.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant", "task"], set_={"duplicates": INTAKES.c.duplicates + duplicates}
        )
    )


async def segments_after(database: Database, tenant: str, task: str, after: int, limit: int) -> list[Listed]:
    """Up to `limit` segments with a number above `after`, rising."""
    table = SEGMENTS
    query = (
        select(table.c.number, table.c.digest, table.c.rows, table.c.written_at)
        .where(table.c.tenant == tenant, table.c.task == task, table.c.number > after)
        .order_by(table.c.number)
        .limit(limit)
    )
    async with database.reading() as session:
        return [Listed(*_plain(row)) for row in (await session.execute(query)).all()]


def _plain(row: Any) -> tuple[int, str, int, float]:
    return int(row[0]), str(row[1]), int(row[2]), float(row[3])
