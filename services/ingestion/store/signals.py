"""Signals counted once, what they said of a response, and those that wait for their inference."""

import time
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from sqlalchemy import and_, delete, func, or_, select, tuple_

from libs.contracts.errors import Conflict
from libs.outbox.database import Database
from libs.outbox.unit import UnitOfWork
from services.ingestion.domain.joined import OutcomeWords
from services.ingestion.domain.judgement import Said
from services.ingestion.domain.signals import Answered, Arrival, key_of, row_id_of
from services.ingestion.domain.wire import recalled
from services.ingestion.store.bulk import by_keys, chunks, insert_new
from services.ingestion.store.inferences import answered_of
from services.ingestion.store.segments import Intake, Stored, add_duplicates, list_segment
from services.ingestion.store.tables import (
    COUNTED,
    INFERENCES,
    INTAKES,
    KINDS,
    REJECTED,
    SAID,
    WAITING,
    Owner,
    insert,
)

_SAID = msgspec.json.Decoder(Said)


class Intaken(msgspec.Struct, frozen=True):
    """What one batch adds for one task: its segment (None when nothing is ready), those who wait, and what was said.

    `said` holds response, revision and the encoded `Said` of each signal that is about a response.
    """

    owner: Owner
    segment: Stored | None
    said: tuple[tuple[bytes, int, bytes], ...] = ()
    waiting: tuple[Arrival, ...] = ()
    duplicates: int = 0


async def seen(database: Database, keys: Collection[bytes]) -> dict[bytes, int]:
    """Those of `keys` that are counted already, each with the stream sequence it was counted from."""
    found: dict[bytes, int] = {}
    async with database.reading() as session:
        for key, seq in await by_keys(session, COUNTED, COUNTED.c.key, (COUNTED.c.key, COUNTED.c.stream_seq), keys):
            found[bytes(key)] = int(seq)
    return found


async def said(database: Database, responses: Collection[bytes]) -> dict[bytes, list[Said]]:
    """What was said of these responses so far, in order."""
    found: dict[bytes, list[Said]] = {}
    async with database.reading() as session:
        columns = (SAID.c.response, SAID.c.said, SAID.c.revision)
        rows = await by_keys(session, SAID, SAID.c.response, columns, responses)
    for response, word, _ in sorted(rows, key=lambda row: row[2]):
        found.setdefault(bytes(response), []).append(_SAID.decode(word))
    return found


async def take_in(unit: UnitOfWork, arrivals: Sequence[Arrival], parts: Sequence[Intaken], patience: float) -> None:
    """Count a batch: keys, segments, what was said and those who wait up to `patience` seconds; Conflict when raced."""
    if arrivals:
        keys = [(arrival.key, arrival.stream_seq) for arrival in arrivals]
        await insert_new(unit, COUNTED, ("key", "stream_seq"), keys)
    for part in parts:
        await _write(unit, part)
        if part.duplicates:
            await add_duplicates(unit, *part.owner, part.duplicates)
        if part.waiting:
            await unit.session.execute(
                insert(unit.session, WAITING), [_waiting(each, patience) for each in part.waiting]
            )


async def release(
    unit: UnitOfWork,
    part: Intaken,
    released: Sequence[Arrival],
    outcomes: Sequence[tuple[Arrival, OutcomeWords]],
) -> None:
    """Let signals that waited go on; Conflict when another replica released one of them first."""
    columns = (WAITING.c.tenant, WAITING.c.task, WAITING.c.source, WAITING.c.id)
    for chunk in chunks(released):
        keys = [(each.tenant, each.task, each.source, each.id) for each in chunk]
        gone = await unit.session.execute(delete(WAITING).where(tuple_(*columns).in_(keys)))
        if gone.rowcount != len(chunk):  # type: ignore[attr-defined]
            raise Conflict("somebody else released these signals", reason="RELEASED_TWICE")
    await _write(unit, part)
    for arrival, outcome in outcomes:
        unit.emit(
            outcome.event(),
            output="outcome",
            tenant=arrival.tenant,
            task=arrival.task,
            key=f"{arrival.tenant}/{arrival.task}/{arrival.source}/{arrival.id}",
            traceparent=arrival.traceparent,
        )


async def ready_to_release(database: Database, until: float, limit: int) -> list[tuple[Arrival, Answered | None]]:
    """Waiting signals whose inference came (oldest first), and those whose patience ended without one by `until`.

    All inferences published until then (epoch seconds) are logged.
    """
    joined = WAITING.outerjoin(
        INFERENCES,
        and_(
            WAITING.c.tenant == INFERENCES.c.tenant,
            WAITING.c.task == INFERENCES.c.task,
            WAITING.c.request_id == INFERENCES.c.request_id,
        ),
    )
    columns = [column.label(f"w_{column.name}") for column in WAITING.c]
    query = (
        select(*columns, *INFERENCES.c)
        .select_from(joined)
        .where(or_(INFERENCES.c.request_id.is_not(None), WAITING.c.expires_at <= until))
        .order_by(WAITING.c.arrived_at, WAITING.c.source, WAITING.c.id)
        .limit(limit)
    )
    async with database.reading() as session:
        rows = (await session.execute(query)).all()
    return [(_arrival(row), answered_of(row) if row.request_id is not None else None) for row in rows]


async def reject(unit: UnitOfWork, owner: Owner, stream_seq: int) -> None:
    """Count an invalid message once, however often it is delivered."""
    statement = insert(unit.session, REJECTED).values(tenant=owner[0], task=owner[1], stream_seq=stream_seq)
    await unit.session.execute(statement.on_conflict_do_nothing())


async def intake(database: Database, tenant: str, task: str) -> Intake:
    """Counts of what arrived for a task."""

    def of(table: Any) -> Any:
        return and_(table.c.tenant == tenant, table.c.task == task)

    async with database.reading() as session:
        kinds = (await session.execute(select(KINDS.c.kind, KINDS.c.counted).where(of(KINDS)))).all()
        row = (await session.execute(select(INTAKES.c.duplicates, INTAKES.c.watermark).where(of(INTAKES)))).first()
        rejected = await session.scalar(select(func.count()).select_from(REJECTED).where(of(REJECTED)))
        waiting = await session.scalar(select(func.count()).select_from(WAITING).where(of(WAITING)))
    return Intake(
        kinds={str(kind): int(counted) for kind, counted in kinds},
        duplicates=int(row[0]) if row else 0,
        rejected=int(rejected or 0),
        waiting=int(waiting or 0),
        watermark=int(row[1]) if row else 0,
    )


async def _write(unit: UnitOfWork, part: Intaken) -> None:
    if part.segment is not None:
        await list_segment(unit, *part.owner, part.segment)
    if part.said:
        now = time.time()
        rows = [(response, revision, now, word) for response, revision, word in part.said]
        # A revision that somebody else wrote meanwhile fails the transaction: it was judged without this one.
        await insert_new(unit, SAID, ("response", "revision", "stored_at", "said"), rows)


def _waiting(arrival: Arrival, patience: float) -> dict[str, Any]:
    return {
        "tenant": arrival.tenant,
        "task": arrival.task,
        "source": arrival.source,
        "id": arrival.id,
        "request_id": arrival.feedback.request_id,
        "payload": msgspec.json.encode(arrival.feedback).decode(),
        "stream_seq": arrival.stream_seq,
        "traceparent": arrival.traceparent,
        "arrived_at": arrival.at,
        "expires_at": time.time() + patience,
    }


def _arrival(row: Any) -> Arrival:
    key = key_of(row.w_tenant, row.w_task, row.w_source, row.w_id)
    return Arrival(
        tenant=row.w_tenant,
        task=row.w_task,
        source=row.w_source,
        id=row.w_id,
        key=key,
        feedback=recalled(row.w_payload.encode()),
        row_id=row_id_of(key),
        at=row.w_arrived_at,
        stream_seq=int(row.w_stream_seq),
        traceparent=row.w_traceparent,
    )
