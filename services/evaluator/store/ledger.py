"""The append-only ledger of live evidence, from which every assessment can be computed again."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Row, and_, bindparam, delete, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from libs.contracts.envelope import Envelope
from libs.contracts.events import Assessment, RolloutChanged
from libs.contracts.inference import Role, Signal
from libs.contracts.subjects import INFERENCE, OUTCOME
from libs.contracts.task import TaskSpec
from libs.outbox.database import Database
from services.evaluator.domain.evidence import WATCHED, ClosedWindow, PairOutcome, Tally, Watch
from services.evaluator.store.rows import insert_highest, insert_new
from services.evaluator.store.tables import assessments, cursors, outcomes, requests, watches, windows

CONSUMER = "evaluator-rollouts"
_WINDOW_ROLES = (Role.STABLE.value, Role.CANARY.value)
_AT_ONCE = 5000

Rows = Sequence[dict[str, Any]]


class Ledger:
    """Evidence of all rollouts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def rollout_changed(self, cause: Envelope[RolloutChanged]) -> None:
        """Open the watch of a stage and end those before it; a stage that is not watched only ends."""
        fact = cause.data
        async with self._database.unit(cause, CONSUMER) as unit:
            if unit.already_handled:
                return
            session, mine = unit.session, and_(watches.c.tenant == fact.tenant, watches.c.task == fact.task)
            newest = await session.scalar(select(func.max(watches.c.generation)).where(mine))
            await session.execute(
                update(watches)
                .where(mine, watches.c.generation < fact.generation, watches.c.ended_at.is_(None))
                .values(ended_at=time.time())
            )
            if fact.stage not in WATCHED:
                return
            row = {
                "tenant": fact.tenant,
                "task": fact.task,
                "generation": fact.generation,
                "turn_id": fact.turn_id,
                "stage": fact.stage,
                "version": fact.version,
                "stable_version": fact.stable_version,
                "share": fact.share,
                "spec": fact.spec.model_dump(mode="json"),
                "traceparent": cause.traceparent,
                "started_at": fact.started_at.timestamp(),
                # Facts may be delivered out of order: an older stage is history already.
                "ended_at": time.time() if newest is not None and newest > fact.generation else None,
            }
            await session.execute(insert_new(session, watches), [row])

    async def watches(self) -> list[Watch]:
        """All watches of the turns that have an open one, oldest generation first: an open one is its turn's last."""
        turns = select(watches.c.turn_id).where(watches.c.ended_at.is_(None))
        query = select(watches).where(watches.c.turn_id.in_(turns)).order_by(watches.c.generation)
        async with self._database.reading() as session:
            return [_watch(row) for row in await session.execute(query)]

    async def record_requests(self, rows: Rows, opened: Rows, cursor: int) -> None:
        """Add requests and the windows they may open; those seen before change nothing."""
        async with self._database.transaction() as session:
            if rows:
                await session.execute(insert_new(session, requests), list(rows))
            if opened:
                await session.execute(insert_new(session, windows), list(opened))
            await _advance(session, INFERENCE, cursor)

    async def record_outcomes(self, rows: Rows, cursor: int) -> int:
        """Add outcomes; returns how many bad ones came after their window was closed and changed nothing."""
        async with self._database.transaction() as session:
            late = 0
            if rows:
                await session.execute(insert_new(session, outcomes), list(rows))
                asked = [row["request_id"] for row in rows if row["signal"] == Signal.BAD.value]
                late = await session.scalar(_late(asked)) or 0 if asked else 0
            await _advance(session, OUTCOME, cursor)
        return int(late)

    async def close_windows(self, turn_id: str, until: float) -> int:
        """Close the windows that ended by `until` and judge each for good, in the order of their ends."""
        due = (windows.c.turn_id == turn_id, windows.c.number.is_(None), windows.c.closes_at <= until)
        async with self._database.transaction() as session:
            order = (windows.c.closes_at, windows.c.generation, windows.c.unit)
            found = (await session.execute(select(windows).where(*due).order_by(*order).limit(_AT_ONCE))).all()
            if not found:
                return 0
            bad = await self._bad(session, due)
            last = await session.scalar(select(func.max(windows.c.number)).where(windows.c.turn_id == turn_id)) or 0
            closing = (
                update(windows)
                .where(
                    windows.c.tenant == bindparam("of_tenant"),
                    windows.c.task == bindparam("of_task"),
                    windows.c.generation == bindparam("of_generation"),
                    windows.c.unit == bindparam("of_unit"),
                )
                .values(number=bindparam("as_number"), bad=bindparam("as_bad"))
            )
            connection = await session.connection()
            await connection.execute(
                closing,
                [
                    {
                        "of_tenant": row.tenant,
                        "of_task": row.task,
                        "of_generation": row.generation,
                        "of_unit": row.unit,
                        "as_number": last + place,
                        "as_bad": (row.generation, row.unit) in bad,
                    }
                    for place, row in enumerate(found, 1)
                ],
            )
        return len(found)

    async def tally(self, watch: Watch) -> Tally:
        """Counts of the watch's own stage."""
        async with self._database.reading() as session:
            here = (
                requests.c.tenant == watch.tenant,
                requests.c.task == watch.task,
                requests.c.generation == watch.generation,
            )
            asked = select(requests.c.role, func.count()).where(*here).group_by(requests.c.role)
            closed = (
                select(windows.c.role, windows.c.bad, func.count())
                .where(
                    windows.c.tenant == watch.tenant,
                    windows.c.task == watch.task,
                    windows.c.generation == watch.generation,
                    windows.c.number.is_not(None),
                )
                .group_by(windows.c.role, windows.c.bad)
            )
            by_role = {role: int(count) for role, count in (await session.execute(asked))}
            ended: dict[str, int] = {}
            bad: dict[str, int] = {}
            for role, is_bad, count in await session.execute(closed):
                ended[role] = ended.get(role, 0) + int(count)
                if is_bad:
                    bad[role] = int(count)
            read = {name: int(place) for name, place in (await session.execute(select(cursors)))}
        return Tally(by_role, ended, bad, read.get(INFERENCE, 0), read.get(OUTCOME, 0))

    async def pairs(self, turn_id: str) -> list[PairOutcome]:
        """Shadow pairs of a turn, counted by kind; the first right answer given for a request counts."""
        shadow, stable = requests.alias("shadow"), requests.alias("stable")
        reference = (
            select(outcomes.c.reference_digest)
            .where(
                outcomes.c.tenant == stable.c.tenant,
                outcomes.c.task == stable.c.task,
                outcomes.c.request_id == stable.c.request_id,
                outcomes.c.reference_digest.is_not(None),
            )
            .order_by(outcomes.c.sequence)
            .limit(1)
            .correlate(stable)
            .scalar_subquery()
        )
        judged = (
            select(
                stable.c.answer_digest.label("stable_digest"),
                shadow.c.answer_digest.label("shadow_digest"),
                reference.label("reference"),
                stable.c.valid.label("stable_valid"),
                shadow.c.valid.label("shadow_valid"),
            )
            .select_from(shadow)
            .join(
                stable,
                and_(
                    stable.c.tenant == shadow.c.tenant,
                    stable.c.task == shadow.c.task,
                    stable.c.request_id == shadow.c.pair_id,
                    stable.c.role == Role.STABLE.value,
                ),
            )
            .where(shadow.c.turn_id == turn_id, shadow.c.role == Role.SHADOW.value)
            # A failure is no answer: serving sheds shadow work first, which says nothing about quality.
            .where(shadow.c.failed.is_(False), stable.c.failed.is_(False))
            .subquery()
        )
        kinds = (
            (judged.c.reference == judged.c.stable_digest).label("stable_right"),
            (judged.c.reference == judged.c.shadow_digest).label("shadow_right"),
            judged.c.stable_valid,
            judged.c.shadow_valid,
        )
        async with self._database.reading() as session:
            counted = await session.execute(select(func.count(), *kinds).group_by(*kinds))
            return [
                PairOutcome(int(row[0]), *(None if value is None else bool(value) for value in row[1:]))
                for row in counted
            ]

    async def bad_windows(self, turn_id: str) -> list[ClosedWindow]:
        """Bad windows of a turn in the order in which they were closed."""
        query = (
            select(windows.c.unit, windows.c.role, windows.c.rho)
            .where(windows.c.turn_id == turn_id, windows.c.number.is_not(None), windows.c.bad.is_(True))
            .order_by(windows.c.number)
        )
        async with self._database.reading() as session:
            return [ClosedWindow(unit, Role(role), rho) for unit, role, rho in (await session.execute(query))]

    async def publish(self, watch: Watch, assessment: Assessment) -> None:
        """Keep an assessment and say it, in the trace of the turn it belongs to."""
        async with self._database.unit() as unit:
            mine = and_(
                assessments.c.tenant == watch.tenant,
                assessments.c.task == watch.task,
                assessments.c.generation == watch.generation,
            )
            number = (await unit.session.scalar(select(func.max(assessments.c.number)).where(mine)) or 0) + 1
            row = {
                "tenant": watch.tenant,
                "task": watch.task,
                "generation": watch.generation,
                "number": number,
                "version": watch.version,
                "document": assessment.model_dump(mode="json"),
                "assessed_at": assessment.assessed_at.timestamp(),
            }
            # A plain INSERT: of two replicas that assess at once one meets a Conflict and is silent.
            await unit.session.execute(assessments.insert(), [row])
            unit.emit(
                assessment,
                output="assessment",
                key=f"{watch.tenant}/{watch.task}/{watch.generation}/{number}",
                turn_id=watch.turn_id,
                traceparent=watch.traceparent,
            )

    async def assessments(self, task: str, version: int | None, limit: int = 2000) -> list[dict[str, Any]]:
        """The newest assessments of a task, oldest first; of one version or of all."""
        query = select(assessments.c.document).where(assessments.c.task == task)
        if version is not None:
            query = query.where(assessments.c.version == version)
        order = (assessments.c.assessed_at.desc(), assessments.c.generation.desc(), assessments.c.number.desc())
        async with self._database.reading() as session:
            found = [document for (document,) in (await session.execute(query.order_by(*order).limit(limit)))]
        return found[::-1]

    async def prune(self, before: float) -> None:
        """Forget the evidence of turns all of whose watches ended before `before`; assessments stay."""
        gone = (
            select(watches.c.turn_id)
            .group_by(watches.c.turn_id)
            .having(and_(func.count() == func.count(watches.c.ended_at), func.max(watches.c.ended_at) < before))
        )
        async with self._database.transaction() as session:
            turns = [turn for (turn,) in (await session.execute(gone))]
            for table in (requests, windows, watches):
                await session.execute(delete(table).where(table.c.turn_id.in_(turns)))
            await session.execute(delete(outcomes).where(outcomes.c.arrived_at < before))

    async def _bad(self, session: AsyncSession, due: Iterable[Any]) -> set[tuple[int, str]]:
        told = exists().where(
            outcomes.c.tenant == requests.c.tenant,
            outcomes.c.task == requests.c.task,
            outcomes.c.request_id == requests.c.request_id,
            outcomes.c.signal == Signal.BAD.value,
        )
        query = (
            select(windows.c.generation, windows.c.unit)
            .join(requests, _same_window())
            .where(*due, or_(requests.c.failed.is_(True), requests.c.valid.is_(False), told))
            .distinct()
        )
        return {(generation, unit) for generation, unit in (await session.execute(query))}


def _same_window() -> Any:
    return and_(
        requests.c.tenant == windows.c.tenant,
        requests.c.task == windows.c.task,
        requests.c.generation == windows.c.generation,
        requests.c.unit == windows.c.unit,
        requests.c.role.in_(_WINDOW_ROLES),
        requests.c.answered_at <= windows.c.closes_at,
    )


def _late(asked: Sequence[str]) -> Any:
    query = select(func.count(requests.c.request_id.distinct())).select_from(requests.join(windows, _same_window()))
    return query.where(requests.c.request_id.in_(asked), windows.c.number.is_not(None))


async def _advance(session: AsyncSession, stream: str, sequence: int) -> None:
    await session.execute(
        insert_highest(session, cursors, "stream", "sequence"), [{"stream": stream, "sequence": sequence}]
    )


def _watch(row: Row[Any]) -> Watch:
    return Watch(
        tenant=row.tenant,
        task=row.task,
        generation=row.generation,
        turn_id=row.turn_id,
        stage=row.stage,
        version=row.version,
        stable_version=row.stable_version,
        share=row.share,
        spec=TaskSpec.model_validate(row.spec),
        traceparent=row.traceparent,
        started_at=row.started_at,
    )
