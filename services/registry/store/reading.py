"""Reading tasks, turns, versions and the audit log."""

import difflib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from libs.contracts.errors import NotFound
from services.registry.domain.state import Task, Turn, Version
from services.registry.store.rows import task_of, turn_of, version_of
from services.registry.store.tables import decisions, tasks, turn_steps, turns, versions


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the audit log."""

    sequence: int
    at: datetime
    turn_id: str
    action: str
    by: str
    reason: str
    evidence: dict[str, Any]


async def find_task(session: AsyncSession, tenant: str, name: str, *, lock: bool = False) -> Task | None:
    """The aggregate, or None; with `lock` nobody else decides about it until the transaction ends."""
    query = select(tasks).where(tasks.c.tenant == tenant, tasks.c.name == name)
    row = (await session.execute(query.with_for_update() if lock else query)).mappings().first()
    if row is None:
        return None
    found = await session.execute(
        select(versions).where(versions.c.tenant == tenant, versions.c.task == name).order_by(versions.c.number)
    )
    turn = await find_turn(session, row["turn_id"]) if row["turn_id"] else None
    return task_of(row, tuple(version_of(version) for version in found.mappings()), turn[0] if turn else None)


async def every_task(session: AsyncSession) -> list[Task]:
    """All aggregates, by tenant and name: four statements, however many tasks there are."""
    newest = select(tasks.c.turn_id).where(tasks.c.turn_id.is_not(None))
    made = await session.execute(select(versions).order_by(versions.c.number))
    opened = await session.execute(select(turns).where(turns.c.turn_id.in_(newest)))
    gone = select(turn_steps).where(turn_steps.c.turn_id.in_(newest)).order_by(turn_steps.c.position)
    versions_of: dict[tuple[str, str], list[Version]] = {}
    for row in made.mappings():
        versions_of.setdefault((row["tenant"], row["task"]), []).append(version_of(row))
    steps_of: dict[str, list[Any]] = {}
    for step in (await session.execute(gone)).mappings():
        steps_of.setdefault(step["turn_id"], []).append(step)
    turn_by = {row["turn_id"]: turn_of(row, steps_of.get(row["turn_id"], [])) for row in opened.mappings()}
    rows = await session.execute(select(tasks).order_by(tasks.c.tenant, tasks.c.name))
    return [
        task_of(row, tuple(versions_of.get((row["tenant"], row["name"]), ())), turn_by.get(row["turn_id"]))
        for row in rows.mappings()
    ]


async def get_task(session: AsyncSession, tenant: str, name: str, *, lock: bool = False) -> Task:
    """The aggregate; NotFound names the known tasks and the nearest."""
    task = await find_task(session, tenant, name, lock=lock)
    if task is not None:
        return task
    known = [found for _, found in await task_names(session) if _ == tenant]
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    listed = f"there are {', '.join(known)}" if known else "none has been applied yet"
    raise NotFound(f"no task {name!r}; {listed}{hint}", reason="UNKNOWN_TASK", field="task")


async def task_names(session: AsyncSession) -> list[tuple[str, str]]:
    """(tenant, name) of all tasks, sorted."""
    found = await session.execute(select(tasks.c.tenant, tasks.c.name).order_by(tasks.c.tenant, tasks.c.name))
    return [(row.tenant, row.name) for row in found]


async def find_turn(session: AsyncSession, turn_id: str) -> tuple[Turn, str, str] | None:
    """A turn with the tenant and name of its task, or None."""
    row = (await session.execute(select(turns).where(turns.c.turn_id == turn_id))).mappings().first()
    if row is None:
        return None
    steps = await session.execute(
        select(turn_steps).where(turn_steps.c.turn_id == turn_id).order_by(turn_steps.c.position)
    )
    return turn_of(row, steps.mappings().all()), row["tenant"], row["task"]


async def turns_of(session: AsyncSession, tenant: str, name: str) -> list[Turn]:
    """Turns of a task, oldest first."""
    mine = (turns.c.tenant == tenant) & (turns.c.task == name)
    rows = (await session.execute(select(turns).where(mine).order_by(turns.c.opened_at, turns.c.turn_id))).mappings()
    steps: dict[str, list[Any]] = {}
    joined = select(turn_steps).join(turns).where(mine).order_by(turn_steps.c.turn_id, turn_steps.c.position)
    for step in (await session.execute(joined)).mappings():
        steps.setdefault(step["turn_id"], []).append(step)
    return [turn_of(row, steps.get(row["turn_id"], [])) for row in rows]


async def decisions_of(session: AsyncSession, tenant: str, name: str) -> list[Entry]:
    """The audit log of a task, oldest first."""
    mine = (decisions.c.tenant == tenant) & (decisions.c.task == name)
    rows = await session.execute(select(decisions).where(mine).order_by(decisions.c.sequence))
    return [Entry(row.sequence, row.at, row.turn_id, row.action, row.by, row.reason, row.evidence) for row in rows]
