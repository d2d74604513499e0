"""Carrying a decision out: the task, its history, the audit log and every effect in one transaction."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession

from libs.contracts.envelope import Envelope
from libs.contracts.subjects import ROUTES, RUNS, TASKS, task_key
from libs.outbox.database import Database
from libs.outbox.unit import UnitOfWork
from libs.telemetry import current_traceparent, trace_id
from services.registry.domain.decision import Decision, Effect, Publish, PutRoute, PutRun, PutTask, Record, Send
from services.registry.domain.state import Occasion, Task
from services.registry.domain.triggers import consider
from services.registry.store.reading import every_task, find_task, get_task
from services.registry.store.rows import task_row, turn_row, version_row
from services.registry.store.tables import decisions, tasks, turn_steps, turns, versions

Decide = Callable[[Task], Decision]


class Store:
    """The only way to change a task: load it, decide, save it with all effects, or nothing at all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session on one snapshot, for the functions of `reading`."""
        async with self._database.reading() as session:
            yield session

    async def decide(
        self,
        tenant: str,
        name: str,
        occasion: Occasion,
        decide: Decide,
        *,
        cause: Envelope[Any] | None = None,
        consumer: str | None = None,
    ) -> Task:
        """Decide about a task and return it; each decision also asks whether a turn is due now.

        With `cause` and `consumer` a fact handled before changes nothing. Raises NotFound for an unknown task.
        """
        async with self._database.unit(cause, consumer) as unit:
            task = await get_task(unit.session, tenant, name, lock=True)
            if unit.already_handled:
                return task
            return await self._carry_out(unit, task, decide, occasion)

    async def task(self, tenant: str, name: str) -> Task:
        """A task as it stands now. Raises NotFound."""
        async with self._database.reading() as session:
            return await get_task(session, tenant, name)

    async def every_task(self) -> list[Task]:
        """All tasks as they stand now."""
        async with self._database.reading() as session:
            return await every_task(session)

    async def look(self, task: Task, occasion: Occasion, decide: Decide) -> None:
        """Decide about a task if, as it was read, there is anything to decide: most often there is not."""
        if decide(task).then(lambda task: consider(task, occasion)) != Decision(task):
            await self.decide(task.tenant, task.name, occasion, decide)

    async def declare_or(
        self, tenant: str, name: str, occasion: Occasion, declare: Callable[[], Decision], decide: Decide
    ) -> tuple[Task, bool]:
        """`declare` an unknown task or `decide` about a known one; returns it and whether anything changed."""
        async with self._database.unit() as unit:
            task = await find_task(unit.session, tenant, name, lock=True)
            if task is not None:
                changed = await self._carry_out(unit, task, decide, occasion)
                return changed, changed.revision != task.revision
            declared = declare()
            await _save(unit.session, None, declared.task)
            await _enact(unit, declared.task, declared.effects, occasion)
            return declared.task, True

    async def _carry_out(self, unit: UnitOfWork, task: Task, decide: Decide, occasion: Occasion) -> Task:
        # A turn that ends and the next one that its end lets begin are two turns to save.
        for step in (decide, lambda task: consider(task, occasion)):
            decision = step(task)
            await _save(unit.session, task, decision.task)
            await _enact(unit, decision.task, decision.effects, occasion)
            task = decision.task
        return task


async def _save(session: AsyncSession, before: Task | None, after: Task) -> None:
    if before is after:
        return
    row = task_row(after)
    if before is None or task_row(before) != row:
        await _upsert(session, tasks, row, ("tenant", "name"))
    known = {version.number: version for version in before.versions} if before is not None else {}
    for version in after.versions:
        if known.get(version.number) is not version:
            await _upsert(session, versions, version_row(after, version), ("tenant", "task", "number"))
    turn = after.turn
    if turn is None or (before is not None and before.turn is turn):
        return
    await _upsert(session, turns, turn_row(after, turn), ("turn_id",))
    known_turn = before.turn if before is not None else None
    written = len(known_turn.steps) if known_turn is not None and known_turn.turn_id == turn.turn_id else 0
    for position, step in enumerate(turn.steps[written:], start=written + 1):
        line = {"turn_id": turn.turn_id, "position": position, "state": step.state.value}
        await session.execute(turn_steps.insert().values(**line, reason=step.reason, at=step.at))


async def _upsert(session: AsyncSession, table: Table, row: dict[str, Any], key: tuple[str, ...]) -> None:
    dialect = session.get_bind().dialect.name
    insert = (sqlite_insert if dialect == "sqlite" else postgres_insert)(table).values(**row)
    changes = {column: value for column, value in row.items() if column not in key}
    await session.execute(insert.on_conflict_do_update(index_elements=list(key), set_=changes))


async def _enact(unit: UnitOfWork, task: Task, effects: tuple[Effect, ...], occasion: Occasion) -> None:
    # A turn that ends here still tells of its end; one that ended before has no part in this.
    turn = task.turn if task.turn is not None and task.turn.closed_at in (None, occasion.now) else None
    trace = _trace(turn.traceparent if turn is not None else None)
    turn_id = turn.turn_id if turn is not None else None
    for effect in effects:
        match effect:
            case Send(command, key):
                name = f"{type(command).__name__}/{key}"
                unit.emit(command, output=name, turn_id=command.turn_id, traceparent=trace)
            case Publish(fact, key):
                unit.emit(fact, output=f"{type(fact).__name__}/{key}", turn_id=turn_id, traceparent=trace)
            case PutRoute(route):
                unit.put_kv(ROUTES, task_key(task.tenant, task.name), route, route.generation)
            case PutTask(applied):
                unit.put_kv(TASKS, task_key(task.tenant, task.name), applied, applied.revision)
            case PutRun(state, number):
                unit.put_kv(RUNS, state.run_id, state, number)
            case Record(action, by, reason, of_turn, evidence):
                await unit.session.execute(
                    decisions.insert().values(
                        tenant=task.tenant,
                        task=task.name,
                        turn_id=of_turn,
                        at=occasion.now,
                        action=action,
                        by=by,
                        reason=reason,
                        evidence=dict(evidence),
                    )
                )


def _trace(of_turn: str | None) -> str | None:
    """The span at work if it belongs to the turn's trace, otherwise the turn's own: a turn is one trace."""
    current = current_traceparent()
    if of_turn is None or (current is not None and trace_id(current) == trace_id(of_turn)):
        return current
    return of_turn
