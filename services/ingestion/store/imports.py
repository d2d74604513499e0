"""Imports: staged while they run, visible as a whole or not at all."""

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import delete, select, update

from libs.contracts.errors import Conflict, NotFound
from libs.contracts.events import ImportCompleted
from libs.contracts.ids import record_of
from libs.outbox.database import Database
from libs.outbox.unit import UnitOfWork
from services.ingestion.domain.rows import Row
from services.ingestion.store import staged
from services.ingestion.store.segments import Stored, list_segment
from services.ingestion.store.staged import FAILED, RUNNING
from services.ingestion.store.tables import IMPORTED, IMPORTS, INTAKES, QUARANTINE, insert

COMPLETED = "completed"
MOST_LISTED = 10_000
"""Quarantined records of an import that are listed; its quarantine object holds them all."""
_CHUNK = 5000


@dataclass(frozen=True, slots=True)
class BadRow:
    """A quarantined record by the line where it begins."""

    row: int
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class ImportRecord:
    """One import and its counts: rows = accepted + quarantined + already seen."""

    import_id: str
    tenant: str
    task: str
    name: str
    format: str
    state: str
    rows: int = 0
    accepted: int = 0
    quarantined: int = 0
    already_seen: int = 0
    watermark: int = 0
    shape: str = ""
    quarantine: str | None = None
    """Digest of the object with every quarantined record."""
    attempt: int = 0
    """Which attempt at this import speaks: one that another overtook changes nothing any more."""
    unread: tuple[str, ...] = ()
    """Columns of the file that no field was mapped to."""


async def find(database: Database, import_id: str) -> ImportRecord | None:
    """The import of that id, if there is one."""
    async with database.reading() as session:
        row = (await session.execute(select(IMPORTS).where(IMPORTS.c.import_id == import_id))).first()
    if row is None:
        return None
    return ImportRecord(
        row.import_id, row.tenant, row.task, row.name, row.format, row.state,
        int(row.rows), int(row.accepted), int(row.quarantined), int(row.already_seen), int(row.watermark),
        row.shape, row.quarantine, int(row.attempt), tuple(json.loads(row.unread or "[]")),
    )  # fmt: skip


async def get(database: Database, import_id: str) -> ImportRecord:
    """The import of that id; NotFound when there is none."""
    record = await find(database, import_id)
    if record is None:
        raise NotFound(f"no import {import_id!r}", field="import_id")
    return record


async def owned(database: Database, tenant: str, import_id: str) -> ImportRecord:
    """The tenant's import of that id; NotFound when there is none, or it is another tenant's."""
    record = await get(database, import_id)
    if record.tenant != tenant:
        raise NotFound(f"no import {import_id!r}", field="import_id")
    return record


async def quarantine_of(database: Database, import_id: str, limit: int) -> list[BadRow]:
    """The first `limit` quarantined records of an import."""
    query = select(QUARANTINE).where(QUARANTINE.c.import_id == import_id).order_by(QUARANTINE.c.row).limit(limit)
    async with database.reading() as session:
        return [BadRow(int(row.row), row.field, row.reason) for row in (await session.execute(query)).all()]


async def begin(unit: UnitOfWork, record: ImportRecord) -> ImportRecord:
    """Open an import and say which attempt this is; an attempt before it is fenced off, and what it staged dropped.

    Conflict when one was completed meanwhile.
    """
    statement = insert(unit.session, IMPORTS).values(
        **_values(record), state=RUNNING, started_at=time.time(), attempt=record.attempt + 1
    )
    # First of all, for it makes who stages under the attempt before wait, or find that it is overtaken.
    begun = statement.on_conflict_do_update(
        index_elements=["import_id"],
        set_={"state": RUNNING, "attempt": IMPORTS.c.attempt + 1},
        where=IMPORTS.c.state != COMPLETED,
    ).returning(IMPORTS.c.attempt, IMPORTS.c.quarantine)
    row = (await unit.session.execute(begun)).first()
    if row is None:
        raise Conflict(f"the import of {record.name} was completed meanwhile", reason="IMPORT_ENDED")
    if row.quarantine is not None:
        await staged.note(unit, record.tenant, record.import_id, row.quarantine)
    for table in (IMPORTED, QUARANTINE):
        await unit.session.execute(delete(table).where(table.c.import_id == record.import_id))
    values = {**_values(record), "started_at": time.time(), "seen_at": None}
    await unit.session.execute(update(IMPORTS).where(IMPORTS.c.import_id == record.import_id).values(**values))
    return replace(record, attempt=int(row.attempt))


async def known_rows(database: Database, record: ImportRecord, row_ids: Collection[str]) -> set[str]:
    """Those of `row_ids` that a completed import, or this one, has taken."""
    found: set[str] = set()
    ids = sorted(row_ids)
    async with database.reading() as session:
        for at in range(0, len(ids), _CHUNK):
            query = (
                select(IMPORTED.c.row_id)
                .join(IMPORTS, IMPORTS.c.import_id == IMPORTED.c.import_id)
                .where(
                    IMPORTED.c.tenant == record.tenant,
                    IMPORTED.c.task == record.task,
                    IMPORTED.c.row_id.in_(ids[at : at + _CHUNK]),
                    (IMPORTS.c.state == COMPLETED) | (IMPORTED.c.import_id == record.import_id),
                )
            )
            found.update((await session.execute(query)).scalars())
    return found


async def consents(database: Database, record: ImportRecord, records: Collection[str]) -> dict[str, bool]:
    """Whether these records of a task may be learnt: what the last completed import, or this one, said of each."""
    found: dict[str, tuple[bool, int, bool]] = {}
    ids = sorted(records)
    async with database.reading() as session:
        for at in range(0, len(ids), _CHUNK):
            query = (
                select(IMPORTED.c.record, IMPORTED.c.import_id, IMPORTS.c.watermark, IMPORTED.c.consent)
                .join(IMPORTS, IMPORTS.c.import_id == IMPORTED.c.import_id)
                .where(
                    IMPORTED.c.tenant == record.tenant,
                    IMPORTED.c.task == record.task,
                    IMPORTED.c.record.in_(ids[at : at + _CHUNK]),
                    (IMPORTS.c.state == COMPLETED) | (IMPORTED.c.import_id == record.import_id),
                )
            )
            for told, import_id, watermark, consent in await session.execute(query):
                said = (import_id == record.import_id, int(watermark), bool(consent))
                found[told] = max(found.get(told, said), said)
    return {told: consent for told, (_, _, consent) in found.items()}


async def overtaken(database: Database, record: ImportRecord) -> bool:
    """Whether a completed import took back, by consent given later, what this one withheld."""
    later, its = IMPORTED.alias(), IMPORTS.alias()
    query = (
        select(IMPORTED.c.row_id)
        .join(later, later.c.record == IMPORTED.c.record)
        .join(its, its.c.import_id == later.c.import_id)
        .where(
            IMPORTED.c.import_id == record.import_id,
            IMPORTED.c.consent.is_(False),
            later.c.tenant == record.tenant,
            later.c.task == record.task,
            later.c.consent.is_(True),
            its.c.state == COMPLETED,
            its.c.watermark > record.watermark,
        )
        .limit(1)
    )
    async with database.reading() as session:
        return (await session.scalar(query)) is not None


async def stage(
    unit: UnitOfWork, record: ImportRecord, rows: Sequence[Row], bad: Sequence[BadRow], digest: str | None = None
) -> None:
    """Remember what a running import took and refused so far, and the object that it is about to put.

    Conflict when this attempt does not run any more: another overtook it, or it was given up.
    """
    if not await _still(unit, record, {"seen_at": time.time()}):
        raise _ended(record)
    if digest is not None:
        await staged.note(unit, record.tenant, record.import_id, digest)
    await _take_over(unit, record, rows)
    listed = bad[: max(0, MOST_LISTED - record.quarantined)]
    if listed:
        refused = [
            {"import_id": record.import_id, "row": each.row, "field": each.field[:200], "reason": each.reason}
            for each in listed
        ]
        await unit.session.execute(insert(unit.session, QUARANTINE).on_conflict_do_nothing(), refused)


async def complete(unit: UnitOfWork, record: ImportRecord, segments: Sequence[Stored]) -> int:
    """List the segments, publish the facts and close the import; returns its watermark.

    Conflict when this attempt does not run any more: another overtook it, or it was given up.
    """
    for stored in segments:
        await list_segment(unit, record.tenant, record.task, stored, import_id=record.import_id)
    query = select(INTAKES.c.watermark).where(INTAKES.c.tenant == record.tenant, INTAKES.c.task == record.task)
    watermark = int(await unit.session.scalar(query) or 0)
    values = {**_values(record), "state": COMPLETED, "watermark": watermark}
    await staged.listed(unit, record.tenant, _named(record, [each.digest for each in segments]))
    if not await _still(unit, record, values):
        raise _ended(record)
    fact = ImportCompleted(
        tenant=record.tenant,
        task=record.task,
        import_id=record.import_id,
        name=record.name,
        rows=record.rows,
        accepted=record.accepted,
        quarantined=record.quarantined,
        watermark=watermark,
    )
    unit.emit(fact, output="import", key=record.import_id)
    return watermark


async def fail(unit: UnitOfWork, record: ImportRecord) -> None:
    """Close a running import that took nothing; its quarantine stays readable."""
    if await _still(unit, record, {**_values(record), "state": FAILED, "accepted": 0}):
        await unit.session.execute(delete(IMPORTED).where(IMPORTED.c.import_id == record.import_id))
        await staged.listed(unit, record.tenant, _named(record, []))


async def _still(unit: UnitOfWork, record: ImportRecord, values: dict[str, Any]) -> bool:
    """Write values to the import; False, and nothing written, when this attempt does not run any more."""
    mine = (IMPORTS.c.import_id == record.import_id, IMPORTS.c.attempt == record.attempt, IMPORTS.c.state == RUNNING)
    done = await unit.session.execute(update(IMPORTS).where(*mine).values(**values))
    return bool(done.rowcount)  # type: ignore[attr-defined]


def _ended(record: ImportRecord) -> Conflict:
    return Conflict(
        f"this attempt to import {record.name} was ended meanwhile: another attempt runs, or it was silent too long; "
        "import it again",
        reason="IMPORT_ENDED",
    )


def _named(record: ImportRecord, digests: list[str]) -> list[str]:
    return [*digests, *([record.quarantine] if record.quarantine else [])]


async def _take_over(unit: UnitOfWork, record: ImportRecord, rows: Sequence[Row]) -> None:
    """Stage rows; one that an import left staged when it was killed is taken over."""
    if not rows:
        return
    told = [(row.row_id, None if row.consent is None else record_of(row.row_id), row.consent) for row in rows]
    if unit.session.get_bind().dialect.name != "sqlite":
        statement = insert(unit.session, IMPORTED)
        taken_over = statement.on_conflict_do_update(
            index_elements=["tenant", "task", "row_id"], set_={"import_id": statement.excluded.import_id}
        )
        values = {"tenant": record.tenant, "task": record.task, "import_id": record.import_id}
        named = [{**values, "row_id": row, "record": of, "consent": consent} for row, of, consent in told]
        await unit.session.execute(taken_over, named)
        return
    # The driver takes values as they are; SQLAlchemy would look at each of them twice.
    await (await unit.session.connection()).exec_driver_sql(
        "INSERT INTO imported (tenant, task, row_id, import_id, record, consent) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (tenant, task, row_id) DO UPDATE SET import_id = excluded.import_id",
        [(record.tenant, record.task, row, record.import_id, of, consent) for row, of, consent in told],
    )


def _values(record: ImportRecord) -> dict[str, Any]:
    return {
        "import_id": record.import_id,
        "tenant": record.tenant,
        "task": record.task,
        "name": record.name,
        "format": record.format,
        "rows": record.rows,
        "accepted": record.accepted,
        "quarantined": record.quarantined,
        "already_seen": record.already_seen,
        "watermark": record.watermark,
        "shape": record.shape,
        "quarantine": record.quarantine,
        "unread": json.dumps(record.unread) if record.unread else None,
    }
