"""The live view's state: what was answered, without text, and the user-windows that closed; only ever added to."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import and_, case, delete, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from libs.contracts.envelope import Envelope
from libs.contracts.events import DropDetected, TaskApplied
from libs.contracts.inference import Role, Signal
from libs.contracts.task import DropSpec, TaskSpec
from libs.outbox.database import Database
from services.evaluator.domain.live_drop import Drop, UserWindow
from services.evaluator.store.live_tables import live_drops, live_requests, live_tasks, live_windows
from services.evaluator.store.rows import insert_new
from services.evaluator.store.tables import outcomes

CONSUMER = "evaluator-tasks"
_MOST_WINDOWS = 60
"""Windows of time closed in one transaction: after a long outage there are many."""
_AT_ONCE = 500

Rows = Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class LiveTask:
    """A task under constant watch; `watch_from` is the user-window after which its drop watch began."""

    tenant: str
    task: str
    spec: TaskSpec
    closed_until: float
    windows: int
    watch_from: int


class Live:
    """Production as the live view keeps it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def task_applied(self, cause: Envelope[TaskApplied]) -> None:
        """Keep a task's specification; another idea of what a drop is begins its watch anew."""
        fact = cause.data
        async with self._database.unit(cause, CONSUMER) as unit:
            if unit.already_handled:
                return
            mine = (live_tasks.c.tenant == fact.tenant, live_tasks.c.task == fact.task)
            held = (await unit.session.execute(select(live_tasks).where(*mine))).one_or_none()
            told = {"revision": fact.revision, "spec": fact.spec.model_dump(mode="json")}
            if held is None:
                row = {"tenant": fact.tenant, "task": fact.task, "closed_until": 0.0, "windows": 0, "watch_from": 0}
                await unit.session.execute(insert(live_tasks), [{**row, **told}])
            elif held.revision < fact.revision:
                if _watched(TaskSpec.model_validate(held.spec)) != _watched(fact.spec):
                    told["watch_from"] = held.windows
                await unit.session.execute(update(live_tasks).where(*mine).values(**told))

    async def tasks(self) -> list[LiveTask]:
        """All tasks under watch."""
        async with self._database.reading() as session:
            return [
                LiveTask(
                    row.tenant, row.task, TaskSpec.model_validate(row.spec), row.closed_until, row.windows,
                    row.watch_from,
                )
                for row in await session.execute(select(live_tasks).order_by(live_tasks.c.tenant, live_tasks.c.task))
            ]  # fmt: skip

    async def record(self, rows: Rows) -> None:
        """Add what was answered; what was delivered before changes nothing."""
        if rows:
            async with self._database.transaction() as session:
                await session.execute(insert_new(session, live_requests), list(rows))

    async def close_windows(self, task: LiveTask, until: float) -> tuple[int, bool]:
        """Judge, once and for good, the user-windows that ended `delay_seconds` before `until`.

        Returns how many there were and whether that was all: after a long outage it takes several turns.

        A window is good when every request in it had an answer, none was invalid and nobody complained in time. Within
        `user_seconds` a user counts once, by the first window.
        """
        live = task.spec.rollout.live
        width = live.window_seconds
        async with self._database.transaction() as session:
            mine = (live_tasks.c.tenant == task.tenant, live_tasks.c.task == task.task)
            row = (await session.execute(select(live_tasks).where(*mine))).one()
            begin = row.closed_until
            first = await session.scalar(
                select(func.min(live_requests.c.answered_at)).where(
                    *_counted(task), live_requests.c.answered_at >= begin
                )
            )
            if first is None:
                return 0, True
            begin = max(begin, math.floor(first / width) * width)
            due = math.floor((until - live.delay_seconds) / width) * width
            end = min(due, begin + _MOST_WINDOWS * width)
            if end <= begin:
                return 0, True
            seen = {
                "requests_position": await session.scalar(select(func.max(live_requests.c.position))) or 0,
                "outcomes_position": await session.scalar(select(func.max(outcomes.c.position))) or 0,
            }
            found = await _windows(session, task, begin, end, seen)
            fresh = await _first_only(session, task, found, live.user_seconds)
            rows = [
                {"tenant": task.tenant, "task": task.task, "number": row.windows + place, "unit": unit,
                 "version": version, "ended_at": ended_at, "good": good, **seen}
                for place, (ended_at, unit, version, good) in enumerate(fresh, 1)
            ]  # fmt: skip
            if rows:
                await session.execute(insert(live_windows), rows)
            change = update(live_tasks).where(*mine)
            await session.execute(change.values(closed_until=end, windows=row.windows + len(rows)))
        return len(rows), end >= due

    async def windows(self, tenant: str, task: str, after: int, until: int | None = None) -> list[UserWindow]:
        """Closed user-windows with a number above `after`, in order."""
        query = select(live_windows).where(
            live_windows.c.tenant == tenant, live_windows.c.task == task, live_windows.c.number > after
        )
        if until is not None:
            query = query.where(live_windows.c.number <= until)
        async with self._database.reading() as session:
            rows = await session.execute(query.order_by(live_windows.c.number))
            return [UserWindow(row.number, row.version, row.ended_at, row.good) for row in rows]

    async def tell(self, task: LiveTask, drop: Drop) -> bool:
        """Keep a drop and say it; False when it was told before (a restart finds it again)."""
        async with self._database.unit() as unit:
            mine = (live_drops.c.tenant == task.tenant, live_drops.c.task == task.task)
            held = [row.document for row in await unit.session.execute(select(live_drops).where(*mine))]
            if any(document["last_window"] >= drop.last_window for document in held):
                return False
            fact = DropDetected(
                tenant=task.tenant, task=task.task, number=len(held) + 1, version=drop.version, floor=drop.floor,
                satisfaction=drop.satisfaction, e_value=drop.e_value, needed=drop.needed, users=drop.users,
                first_window=drop.first_window, last_window=drop.last_window, reason=_words(drop),
                detected_at=datetime.fromtimestamp(drop.at, UTC),
            )  # fmt: skip
            row = {
                "tenant": task.tenant, "task": task.task, "number": fact.number, "began_after": task.watch_from,
                "document": fact.model_dump(mode="json"), "spec": task.spec.model_dump(mode="json"),
            }  # fmt: skip
            await unit.session.execute(insert(live_drops), [row])
            unit.emit(fact, output="drop", key=f"{task.tenant}/{task.task}/{drop.last_window}")
        return True

    async def drops(self, task: str) -> list[tuple[dict[str, Any], TaskSpec, int]]:
        """(document, specification at that time, window after which the watch began) of each drop, oldest first."""
        query = select(live_drops).where(live_drops.c.task == task).order_by(live_drops.c.tenant, live_drops.c.number)
        async with self._database.reading() as session:
            return [
                (row.document, TaskSpec.model_validate(row.spec), row.began_after)
                for row in await session.execute(query)
            ]

    async def prune(self, before: float) -> None:
        """Forget requests answered before `before`, and user-windows of versions that are no longer stable."""
        newest = (
            select(live_windows.c.tenant, live_windows.c.task, func.max(live_windows.c.number).label("number"))
            .group_by(live_windows.c.tenant, live_windows.c.task)
            .subquery()
        )
        last = and_(
            live_windows.c.tenant == newest.c.tenant,
            live_windows.c.task == newest.c.task,
            live_windows.c.number == newest.c.number,
        )
        async with self._database.transaction() as session:
            await session.execute(delete(live_requests).where(live_requests.c.answered_at < before))
            current = select(live_windows.c.tenant, live_windows.c.task, live_windows.c.version).join(newest, last)
            for tenant, task, version in (await session.execute(current)).all():
                old = (
                    live_windows.c.tenant == tenant,
                    live_windows.c.task == task,
                    live_windows.c.version != version,
                    live_windows.c.ended_at < before,
                )
                await session.execute(delete(live_windows).where(*old))


def _watched(spec: TaskSpec) -> tuple[DropSpec | None, int]:
    return spec.triggers.on_drop, spec.rollout.live.reference_users


def _counted(task: LiveTask) -> tuple[Any, ...]:
    """Requests that make user-windows: users' own, answered by the stable version."""
    return (
        live_requests.c.tenant == task.tenant,
        live_requests.c.task == task.task,
        live_requests.c.role == Role.STABLE.value,
        live_requests.c.explicit.is_(False),
    )


async def _windows(
    session: AsyncSession, task: LiveTask, begin: float, end: float, seen: dict[str, int]
) -> list[tuple[float, str, int, bool]]:
    """(end, unit, version, good) of the user-windows between two times, in order."""
    told = exists().where(
        outcomes.c.tenant == live_requests.c.tenant,
        outcomes.c.task == live_requests.c.task,
        outcomes.c.request_id == live_requests.c.request_id,
        outcomes.c.signal == Signal.BAD.value,
        outcomes.c.position <= seen["outcomes_position"],
    )
    query = (
        select(
            live_requests.c.unit,
            live_requests.c.version,
            func.min(live_requests.c.answered_at),
            func.min(case((live_requests.c.failed, 1), else_=0)),
            func.max(case((live_requests.c.valid.is_(False), 1), else_=0)),
            func.max(case((told, 1), else_=0)),
        )
        .where(*_counted(task), live_requests.c.answered_at >= begin, live_requests.c.answered_at < end)
        .where(live_requests.c.position <= seen["requests_position"])
        .group_by(live_requests.c.unit, live_requests.c.version, live_requests.c.request_id)
    )
    width = task.spec.rollout.live.window_seconds
    found: dict[tuple[float, str, int], bool] = {}
    for unit, version, at, failed, invalid, blamed in await session.execute(query):
        key = (math.floor(at / width) * width + width, unit, version)
        found[key] = found.get(key, True) and not (failed or invalid or blamed)
    return sorted((*key, good) for key, good in found.items())


async def _first_only(
    session: AsyncSession, task: LiveTask, found: Iterable[tuple[float, str, int, bool]], seconds: float
) -> list[tuple[float, str, int, bool]]:
    """The windows of users who did not count within `seconds` before."""
    rows = list(found)
    units = sorted({unit for _, unit, _, _ in rows})
    last: dict[str, float] = {}
    for place in range(0, len(units), _AT_ONCE):
        query = (
            select(live_windows.c.unit, func.max(live_windows.c.ended_at))
            .where(live_windows.c.tenant == task.tenant, live_windows.c.task == task.task)
            .where(live_windows.c.unit.in_(units[place : place + _AT_ONCE]))
            .group_by(live_windows.c.unit)
        )
        last |= {row[0]: row[1] for row in await session.execute(query)}
    fresh = []
    for row in rows:
        ended_at, unit = row[0], row[1]
        if unit not in last or ended_at - last[unit] >= max(seconds, 1e-9):
            last[unit] = ended_at
            fresh.append(row)
    return fresh


def _words(drop: Drop) -> str:
    return (
        f"{drop.satisfaction:.0%} of the last {drop.users} users had no bad answer, "
        f"at least {drop.floor:.0%} is asked; evidence {drop.e_value:.3g} of {drop.needed:.3g}"
    )
