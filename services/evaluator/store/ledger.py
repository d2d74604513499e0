"""The append-only ledger of live evidence, from which every assessment can be computed again."""

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_, bindparam, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from libs.contracts.envelope import Envelope
from libs.contracts.events import Assessment, RolloutChanged
from libs.contracts.inference import Signal
from libs.contracts.subjects import INFERENCE, OUTCOME
from services.evaluator.domain.evidence import WATCHED, Watch
from services.evaluator.store.readings import Readings, bad_of, same_window
from services.evaluator.store.rows import insert_highest, insert_new
from services.evaluator.store.tables import assessments, cursors, outcomes, requests, watches, windows

CONSUMER = "evaluator-rollouts"
_AT_ONCE = 5000

Rows = Sequence[dict[str, Any]]


class Ledger(Readings):
    """Evidence of all rollouts: written here, read by `Readings`."""

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
            seen = {
                "requests_position": await session.scalar(select(func.max(requests.c.position))) or 0,
                "outcomes_position": await session.scalar(select(func.max(outcomes.c.position))) or 0,
            }
            bad = await bad_of(session, due)
            last = await session.scalar(select(func.max(windows.c.number)).where(windows.c.turn_id == turn_id)) or 0
            closing = (
                update(windows)
                .where(
                    windows.c.tenant == bindparam("of_tenant"),
                    windows.c.task == bindparam("of_task"),
                    windows.c.generation == bindparam("of_generation"),
                    windows.c.unit == bindparam("of_unit"),
                )
                .values(number=bindparam("as_number"), bad=bindparam("as_bad"), **seen)
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


def _late(asked: Sequence[str]) -> Any:
    query = select(func.count(requests.c.request_id.distinct())).select_from(requests.join(windows, same_window()))
    return query.where(requests.c.request_id.in_(asked), windows.c.number.is_not(None))


async def _advance(session: AsyncSession, stream: str, sequence: int) -> None:
    await session.execute(
        insert_highest(session, cursors, "stream", "sequence"), [{"stream": stream, "sequence": sequence}]
    )
