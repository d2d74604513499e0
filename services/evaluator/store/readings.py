"""Reads the ledger as it stood at a mark: what an assessment saw can be seen again, and nothing more than that."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, case, exists, func, or_, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from libs.contracts.events import Assessment
from libs.contracts.inference import Role, Signal
from libs.contracts.subjects import INFERENCE, OUTCOME
from libs.contracts.task import TaskSpec
from libs.outbox.database import Database
from services.evaluator.domain.evidence import (
    SHADOW,
    Check,
    Mark,
    PairOutcome,
    Tally,
    Watch,
    assess_canary,
    assess_shadow,
    checked,
    differences,
    mark_of,
)
from services.evaluator.domain.segments import ClosedWindow, SegmentTally
from services.evaluator.store.tables import assessments, cursors, outcomes, requests, watches, windows

_WINDOW_ROLES = (Role.STABLE.value, Role.CANARY.value)


class Readings:
    """The ledger, read."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def watches(self) -> list[Watch]:
        """All watches of the turns that have an open one, oldest generation first: an open one is its turn's last."""
        turns = select(watches.c.turn_id).where(watches.c.ended_at.is_(None))
        query = select(watches).where(watches.c.turn_id.in_(turns)).order_by(watches.c.generation)
        async with self._database.reading() as session:
            return [_watch(row) for row in await session.execute(query)]

    async def watches_of(self, task: str) -> list[Watch]:
        """All watches of a task whose evidence is still kept, oldest first."""
        query = select(watches).where(watches.c.task == task).order_by(watches.c.tenant, watches.c.generation)
        async with self._database.reading() as session:
            return [_watch(row) for row in await session.execute(query)]

    async def mark(self, turn_id: str) -> Mark:
        """Where the ledger ends now, on one snapshot."""
        async with self._database.reading() as session:
            read = {name: int(place) for name, place in (await session.execute(select(cursors)))}
            closed = select(func.max(windows.c.number)).where(windows.c.turn_id == turn_id)
            return Mark(
                requests=await session.scalar(select(func.max(requests.c.position))) or 0,
                outcomes=await session.scalar(select(func.max(outcomes.c.position))) or 0,
                windows=await session.scalar(closed) or 0,
                inference_cursor=read.get(INFERENCE, 0),
                outcome_cursor=read.get(OUTCOME, 0),
            )

    async def recompute(self, watch: Watch, mark: Mark, now: datetime) -> Assessment:
        """What the ledger showed for a watch at a mark; nothing but the ledger enters."""
        tally = await self.tally(watch, mark)
        if watch.stage == SHADOW:
            return assess_shadow(watch, await self.pairs(watch.turn_id, mark), tally, now)
        return assess_canary(watch, await self.bad_windows(watch.turn_id, mark), tally, now)

    async def tally(self, watch: Watch, mark: Mark | None = None) -> Tally:
        """Counts of the watch's own stage; a request that was tried again counts once."""
        mark = mark or await self.mark(watch.turn_id)
        async with self._database.reading() as session:
            asked = (
                select(requests.c.role, func.count(requests.c.request_id.distinct()))
                .where(_of(requests, watch), requests.c.position <= mark.requests)
                .group_by(requests.c.role)
            )
            kinds = (windows.c.segment, windows.c.role, windows.c.bad)
            closed = (
                select(*kinds, func.count())
                .where(_of(windows, watch), windows.c.number <= mark.windows)
                .group_by(*kinds)
            )
            by_role = {role: int(count) for role, count in (await session.execute(asked))}
            ended: dict[str, int] = {}
            bad: dict[str, int] = {}
            segments: dict[str, SegmentTally] = {}
            for segment, role, is_bad, count in await session.execute(closed):
                mine = segments.setdefault(segment or "", SegmentTally())
                for counted in (ended, mine.windows):
                    counted[role] = counted.get(role, 0) + int(count)
                for counted in (bad, mine.bad_windows) if is_bad else ():
                    counted[role] = counted.get(role, 0) + int(count)
        return Tally(by_role, ended, bad, mark, segments)

    async def pairs(self, turn_id: str, mark: Mark) -> list[PairOutcome]:
        """Shadow pairs of a turn, counted by kind.

        Of several records of a request the first whole answer counts; the first right answer given for it, too. A pair
        needs two whole answers: a failure is none (serving sheds shadow work first, which says nothing about quality),
        and what was broken off is half of one.
        """
        shadow, stable = _whole(turn_id, Role.SHADOW, mark), _whole(turn_id, Role.STABLE, mark)
        reference = (
            select(outcomes.c.reference_digest)
            .where(
                outcomes.c.tenant == stable.c.tenant,
                outcomes.c.task == stable.c.task,
                outcomes.c.request_id == stable.c.request_id,
                outcomes.c.reference_digest.is_not(None),
                outcomes.c.position <= mark.outcomes,
            )
            .order_by(outcomes.c.position)
            .limit(1)
            .correlate(stable)
            .scalar_subquery()
        )
        same = and_(
            stable.c.tenant == shadow.c.tenant,
            stable.c.task == shadow.c.task,
            stable.c.request_id == shadow.c.pair_id,
        )
        judged = (
            select(
                stable.c.answer_digest.label("stable_digest"),
                shadow.c.answer_digest.label("shadow_digest"),
                reference.label("reference"),
                stable.c.valid.label("stable_valid"),
                shadow.c.valid.label("shadow_valid"),
            )
            .select_from(shadow.join(stable, same))
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

    async def bad_windows(self, turn_id: str, mark: Mark) -> list[ClosedWindow]:
        """Bad windows of a turn in the order in which they were closed."""
        query = (
            select(windows.c.unit, windows.c.role, windows.c.rho, windows.c.segment)
            .where(windows.c.turn_id == turn_id, windows.c.number <= mark.windows, windows.c.bad.is_(True))
            .order_by(windows.c.number)
        )
        async with self._database.reading() as session:
            return [
                ClosedWindow(unit, Role(role), rho, segment or "")
                for unit, role, rho, segment in (await session.execute(query))
            ]

    async def misjudged(self, turn_id: str) -> list[str]:
        """Closed windows of a turn whose judgement does not follow from the records it was made on."""
        mine = (windows.c.turn_id == turn_id, windows.c.number.is_not(None), windows.c.requests_position.is_not(None))
        async with self._database.reading() as session:
            bad = await bad_of(session, mine, as_judged=True)
            query = select(windows.c.generation, windows.c.unit, windows.c.number, windows.c.bad).where(*mine)
            return [
                f"window {row.number} was judged {'bad' if row.bad else 'good'}, its records say otherwise"
                for row in await session.execute(query.order_by(windows.c.number))
                if ((row.generation, row.unit) in bad) != bool(row.bad)
            ]

    async def verify(self, task: str, turn_id: str = "") -> list[Check]:
        """Each assessment of a task (of one turn, where named) computed again from the ledger, oldest first."""
        watched = {(watch.tenant, watch.generation): watch for watch in await self.watches_of(task)}
        misjudged: dict[str, list[str]] = {}
        checks = []
        for tenant, number, document in await self.published(task):
            published = Assessment.model_validate(document)
            watch, mark = watched.get((tenant, published.generation)), mark_of(published)
            whose = watch.turn_id if watch is not None else ""
            if turn_id and whose != turn_id:
                continue
            if watch is None or mark is None:
                checks.append(checked(whose, published, number, None))
                continue
            if whose not in misjudged:
                misjudged[whose] = await self.misjudged(whose)
            found = differences(published, await self.recompute(watch, mark, published.assessed_at))
            checks.append(checked(whose, published, number, [*found, *misjudged[whose]]))
        return checks

    async def assessments(self, task: str, version: int | None, limit: int = 2000) -> list[dict[str, Any]]:
        """The newest assessments of a task, oldest first; of one version or of all."""
        query = select(assessments.c.document).where(assessments.c.task == task)
        if version is not None:
            query = query.where(assessments.c.version == version)
        order = (assessments.c.assessed_at.desc(), assessments.c.generation.desc(), assessments.c.number.desc())
        async with self._database.reading() as session:
            found = [document for (document,) in (await session.execute(query.order_by(*order).limit(limit)))]
        return found[::-1]

    async def published(self, task: str) -> list[tuple[str, int, dict[str, Any]]]:
        """(tenant, number within its generation, document) of every assessment of a task, oldest first."""
        query = select(assessments).where(assessments.c.task == task)
        order = (assessments.c.tenant, assessments.c.generation, assessments.c.number)
        async with self._database.reading() as session:
            return [(row.tenant, row.number, row.document) for row in await session.execute(query.order_by(*order))]


async def bad_of(session: AsyncSession, due: Iterable[Any], *, as_judged: bool = False) -> set[tuple[int, str]]:
    """(generation, unit) of the windows that hold a bad request.

    A request is bad when every try failed, when an answer was invalid, or when somebody said so. With `as_judged` only
    the records that were there when its window was closed count.
    """
    seen = requests.c.position <= windows.c.requests_position if as_judged else true()
    heard = outcomes.c.position <= windows.c.outcomes_position if as_judged else true()
    told = exists().where(
        outcomes.c.tenant == requests.c.tenant,
        outcomes.c.task == requests.c.task,
        outcomes.c.request_id == requests.c.request_id,
        outcomes.c.signal == Signal.BAD.value,
        heard,
    )
    query = (
        select(windows.c.generation, windows.c.unit)
        .join(requests, and_(same_window(), seen))
        .where(*due)
        .group_by(windows.c.generation, windows.c.unit, requests.c.request_id)
        .having(
            or_(
                func.min(case((requests.c.failed, 1), else_=0)) == 1,
                func.max(case((requests.c.valid.is_(False), 1), else_=0)) == 1,
                func.max(case((told, 1), else_=0)) == 1,
            )
        )
        .distinct()
    )
    return {(generation, unit) for generation, unit in (await session.execute(query))}


def same_window() -> Any:
    """Whether a request lies in a window."""
    return and_(
        requests.c.tenant == windows.c.tenant,
        requests.c.task == windows.c.task,
        requests.c.generation == windows.c.generation,
        requests.c.unit == windows.c.unit,
        requests.c.role.in_(_WINDOW_ROLES),
        requests.c.answered_at <= windows.c.closes_at,
    )


def _whole(turn_id: str, role: Role, mark: Mark) -> Any:
    mine = (requests.c.turn_id == turn_id, requests.c.role == role.value, requests.c.position <= mark.requests)
    key = (requests.c.tenant, requests.c.task, requests.c.request_id)
    first = select(func.min(requests.c.position)).where(*mine, requests.c.whole).group_by(*key)
    return select(requests).where(requests.c.position.in_(first)).subquery(f"{role.value}_answers")


def _of(table: Any, watch: Watch) -> Any:
    return and_(
        table.c.tenant == watch.tenant, table.c.task == watch.task, table.c.generation == watch.generation
    )  # fmt: skip


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
