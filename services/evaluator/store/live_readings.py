"""Reads the live view: what was served in a span of time, what is asked, and how late feedback comes."""

from typing import Any

from sqlalchemy import and_, case, exists, func, select

from libs.contracts.feedback import FeedbackKind
from libs.contracts.inference import Role, Signal
from libs.outbox.database import Database
from services.evaluator.domain.drift_inputs import Asked
from services.evaluator.domain.live_metrics import Mirrored, Served
from services.evaluator.store.live_tables import live_requests, live_windows
from services.evaluator.store.tables import outcomes

_MOST = 20_000
_SHOWN_ROLES = (Role.STABLE.value, Role.CANARY.value, Role.SHADOW.value)


class LiveReadings:
    """The live view, read."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def served(self, tenant: str, task: str, since: float) -> list[Served]:
        """Requests of users since a time, the newest 20,000; of several tries the answered one."""
        told = (
            select(
                outcomes.c.request_id,
                _any(outcomes.c.signal == Signal.GOOD.value).label("good"),
                _any(outcomes.c.signal == Signal.BAD.value).label("bad"),
                _any(outcomes.c.kind == FeedbackKind.ESCALATION.value).label("escalated"),
            )
            .where(outcomes.c.tenant == tenant, outcomes.c.task == task, outcomes.c.arrived_at >= since)
            .group_by(outcomes.c.request_id)
            .subquery()
        )
        query = (
            select(live_requests, told.c.good, told.c.bad, told.c.escalated)
            .outerjoin(told, and_(told.c.request_id == live_requests.c.request_id))
            .where(live_requests.c.tenant == tenant, live_requests.c.task == task)
            .where(live_requests.c.answered_at >= since, live_requests.c.explicit.is_(False))
            .where(live_requests.c.role.in_(_SHOWN_ROLES))
            .order_by(live_requests.c.position.desc())
            .limit(_MOST)
        )
        final: dict[tuple[str, str], Any] = {}
        async with self._database.reading() as session:
            for row in await session.execute(query):
                held = final.get((row.request_id, row.role))
                if held is None or (row.whole and not held.whole):
                    final[row.request_id, row.role] = row
        return [
            Served(
                row.version, row.role, row.unit, row.segment, row.failed, row.whole, row.valid, row.refused,
                row.latency_ms, row.first_token_ms, row.output_chars, row.completion_tokens, bool(row.good),
                bool(row.bad), bool(row.escalated),
            )
            for row in final.values()
        ]  # fmt: skip

    async def mirrored(self, tenant: str, task: str, since: float) -> list[Mirrored]:
        """Pairs of whole answers of stable and shadow since a time, the newest 20,000."""
        shadow, stable = live_requests.alias("shadow"), live_requests.alias("stable")
        same = and_(
            stable.c.tenant == shadow.c.tenant,
            stable.c.task == shadow.c.task,
            stable.c.request_id == shadow.c.pair_id,
            stable.c.role == Role.STABLE.value,
            stable.c.whole,
        )
        query = (
            select(shadow, stable.c.answer_digest.label("stable_digest"), stable.c.latency_ms.label("stable_ms"),
                   stable.c.output_chars.label("stable_chars"))
            .join(stable, same)
            .where(shadow.c.tenant == tenant, shadow.c.task == task, shadow.c.role == Role.SHADOW.value, shadow.c.whole)
            .where(shadow.c.answered_at >= since)
            .order_by(shadow.c.position.desc())
            .limit(_MOST)
        )  # fmt: skip
        async with self._database.reading() as session:
            found = {row.pair_id: row for row in await session.execute(query)}
        return [
            Mirrored(
                row.segment, row.unit, row.answer_digest == row.stable_digest, row.stable_ms, row.latency_ms,
                row.stable_chars, row.output_chars,
            )
            for row in found.values()
        ]  # fmt: skip

    async def asked(self, tenant: str, task: str, version: int, users: int) -> tuple[list[Asked], list[Asked]]:
        """What the first `users` users of a stable version asked, and the newest as many after: one request each."""
        mine = (
            live_requests.c.tenant == tenant,
            live_requests.c.task == task,
            live_requests.c.version == version,
            live_requests.c.role == Role.STABLE.value,
            live_requests.c.explicit.is_(False),
        )
        first = (
            select(func.min(live_requests.c.position).label("position"))
            .where(*mine)
            .group_by(live_requests.c.unit)
            .subquery()
        )
        begun = select(first.c.position).order_by(first.c.position).limit(users)
        async with self._database.reading() as session:
            reference = list(
                (await session.execute(select(live_requests).where(live_requests.c.position.in_(begun)))).all()
            )
            after = max((row.position for row in reference), default=0)
            latest = (
                select(func.max(live_requests.c.position).label("position"))
                .where(*mine, live_requests.c.position > after)
                .group_by(live_requests.c.unit)
                .subquery()
            )
            newest = select(latest.c.position).order_by(latest.c.position.desc()).limit(users)
            current = (await session.execute(select(live_requests).where(live_requests.c.position.in_(newest)))).all()
        return [_asked(row) for row in reference], [_asked(row) for row in current]

    async def misjudged(self, tenant: str, task: str, first: int, last: int, width: float) -> list[str]:
        """User-windows from `first` to `last` whose records, where they are still kept, say otherwise than judged."""
        told = exists().where(
            outcomes.c.tenant == live_requests.c.tenant,
            outcomes.c.task == live_requests.c.task,
            outcomes.c.request_id == live_requests.c.request_id,
            outcomes.c.signal == Signal.BAD.value,
            outcomes.c.position <= live_windows.c.outcomes_position,
        )
        inside = and_(
            live_requests.c.tenant == live_windows.c.tenant,
            live_requests.c.task == live_windows.c.task,
            live_requests.c.unit == live_windows.c.unit,
            live_requests.c.version == live_windows.c.version,
            live_requests.c.role == Role.STABLE.value,
            live_requests.c.explicit.is_(False),
            live_requests.c.position <= live_windows.c.requests_position,
            live_requests.c.answered_at >= live_windows.c.ended_at - width,
            live_requests.c.answered_at < live_windows.c.ended_at,
        )
        query = (
            select(
                live_windows.c.number,
                live_windows.c.good,
                func.min(case((live_requests.c.failed, 1), else_=0)),
                _any(live_requests.c.valid.is_(False)),
                _any(told),
            )
            .join(live_requests, inside)
            .where(live_windows.c.tenant == tenant, live_windows.c.task == task)
            .where(live_windows.c.number >= first, live_windows.c.number <= last)
            .group_by(live_windows.c.number, live_windows.c.good, live_requests.c.request_id)
        )
        judged: dict[int, tuple[bool, bool]] = {}
        async with self._database.reading() as session:
            for number, good, failed, invalid, blamed in await session.execute(query):
                _, so_far = judged.get(number, (good, True))
                judged[number] = (good, so_far and not (failed or invalid or blamed))
        return [
            f"user-window {number} was judged {'good' if good else 'bad'}, its records say otherwise"
            for number, (good, found) in sorted(judged.items())
            if bool(good) != found
        ]

    async def stable_version(self, tenant: str, task: str) -> int | None:
        """The version that answered the newest request as stable; None before there was any."""
        query = (
            select(live_requests.c.version)
            .where(live_requests.c.tenant == tenant, live_requests.c.task == task)
            .where(live_requests.c.role == Role.STABLE.value, live_requests.c.explicit.is_(False))
            .order_by(live_requests.c.position.desc())
            .limit(1)
        )
        async with self._database.reading() as session:
            return await session.scalar(query)

    async def lateness(self, tenant: str, task: str, since: float, waited: float) -> dict[str, Any] | None:
        """How much of the feedback since a time came more than `waited` seconds after its answer; None without any."""
        delay = outcomes.c.arrived_at - live_requests.c.answered_at
        query = (
            select(func.count(), _sum(delay > waited), func.max(delay))
            .select_from(outcomes)
            .join(
                live_requests,
                and_(
                    live_requests.c.tenant == outcomes.c.tenant,
                    live_requests.c.task == outcomes.c.task,
                    live_requests.c.request_id == outcomes.c.request_id,
                    live_requests.c.role != Role.SHADOW.value,
                ),
            )
            .where(outcomes.c.tenant == tenant, outcomes.c.task == task, outcomes.c.arrived_at >= since)
        )
        async with self._database.reading() as session:
            count, late, longest = (await session.execute(query)).one()
        return {"feedback": count, "late": int(late), "longest_seconds": longest, "waited": waited} if count else None


def _any(condition: Any) -> Any:
    return func.max(case((condition, 1), else_=0))


def _sum(condition: Any) -> Any:
    return func.sum(case((condition, 1), else_=0))


def _asked(row: Any) -> Asked:
    return Asked(row.input_chars, row.language, row.category, row.sketch)
