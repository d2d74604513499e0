"""Logged inferences as signals are joined to them; their log lies in segments."""

import time
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from sqlalchemy import delete, exists, select, tuple_

from libs.contracts.inference import Role
from libs.outbox.database import Database
from libs.outbox.unit import UnitOfWork
from services.ingestion.domain.rows import Prompt
from services.ingestion.domain.signals import Answered
from services.ingestion.store.bulk import chunks, insert_new
from services.ingestion.store.segments import Size
from services.ingestion.store.tables import COUNTED, INFERENCE_SEGMENTS, INFERENCES, SAID, Owner, insert

_PAGE = 1000


async def find(database: Database, owner: Owner, request_ids: Collection[str]) -> dict[str, Answered]:
    """The logged inferences of these requests."""
    table, found = INFERENCES, {}
    async with database.reading() as session:
        for chunk in chunks(sorted(request_ids)):
            query = select(table).where(
                table.c.tenant == owner[0], table.c.task == owner[1], table.c.request_id.in_(chunk)
            )
            for row in (await session.execute(query)).all():
                found[row.request_id] = answered_of(row)
    return found


async def log(
    unit: UnitOfWork, owner: Owner, logged: Sequence[Answered], digest: str, size: Size, others: Sequence[bytes] = ()
) -> None:
    """List a segment of logged inferences of that size and keep `logged`, the joinable part; Conflict when raced.

    `others` are keys of its records that are not joinable: like signals they count once.
    """
    now = time.time()
    rows = [_inference(owner, each, now) for each in logged]
    if rows:
        await insert_new(unit, INFERENCES, tuple(rows[0]), [tuple(row.values()) for row in rows])
    if others:
        await insert_new(unit, COUNTED, ("key", "stream_seq"), [(key, 0) for key in others])
    listed = insert(unit.session, INFERENCE_SEGMENTS).values(
        tenant=owner[0], task=owner[1], digest=digest, rows=size.rows, bytes=size.bytes, written_at=now
    )
    await unit.session.execute(listed.on_conflict_do_nothing())


async def answers(database: Database, most: int, least: int) -> AsyncIterator[tuple[Owner, list[tuple[str, int]]]]:
    """The last answers that are joinable, at most `most`, oldest first: per owner those of at least `least`
    characters, each with the version that gave it.
    """
    table = INFERENCES
    place = (table.c.stored_at, table.c.tenant, table.c.task, table.c.request_id)
    newest = select(table.c.stored_at).order_by(table.c.stored_at.desc()).offset(most).limit(1)
    query = select(*place, table.c.output, table.c.version).order_by(*place).limit(_PAGE)
    async with database.reading() as session:
        since = (await session.execute(newest)).scalar()
    after = (since if since is not None else 0.0, "\x7f", "", "")
    while True:
        async with database.reading() as session:
            rows = (await session.execute(query.where(tuple_(*place) > after))).all()
        for owner, group in groupby(rows, key=lambda row: (row.tenant, row.task)):
            yield owner, [(row.output, row.version) for row in group if len(row.output) >= least]
        if len(rows) < _PAGE:
            return
        after = tuple(rows[-1][: len(place)])


async def forget(unit: UnitOfWork, before: float) -> int:
    """Drop joinable inferences stored before `before` (epoch seconds), and what was said of responses of which nothing
    was said since; segments stay.
    """
    gone = await unit.session.execute(delete(INFERENCES).where(INFERENCES.c.stored_at < before))
    # Revisions are counted: of a response that is still spoken of the first must not be missing.
    later = SAID.alias()
    spoken = exists().where(later.c.response == SAID.c.response, later.c.stored_at >= before)
    await unit.session.execute(delete(SAID).where(SAID.c.stored_at < before, ~spoken))
    return int(gone.rowcount)  # type: ignore[attr-defined]


def _inference(owner: Owner, each: Answered, now: float) -> dict[str, Any]:
    return {
        "tenant": owner[0],
        "task": owner[1],
        "request_id": each.request_id,
        "system": each.prompt.system,
        "history": each.prompt.history,
        "input": each.prompt.input,
        "output": each.output,
        "version": each.version,
        "role": each.role.value,
        "generation": each.generation,
        "unit": each.unit,
        "segment": each.segment,
        "answered_at": each.answered_at.timestamp(),
        "stored_at": now,
        "messages": each.messages,
        "tools": each.tools,
    }


def answered_of(row: Any) -> Answered:
    """Of a row of the table."""
    return Answered(
        request_id=row.request_id,
        prompt=Prompt(row.system, row.history, row.input),
        output=row.output,
        version=int(row.version),
        role=Role(row.role),
        generation=int(row.generation),
        unit=row.unit,
        segment=row.segment,
        answered_at=datetime.fromtimestamp(row.answered_at, UTC),
        messages=row.messages,
        tools=row.tools,
    )
