"""What was decided beside the task file: the task as applied, rules undone, scores of judges."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select

from libs.contracts.errors import NotFound
from libs.contracts.events import TaskApplied
from libs.contracts.task import TaskSpec
from libs.outbox.database import Database
from libs.outbox.unit import UnitOfWork
from services.curation.store.dialect import insert, of
from services.curation.store.tables import OVERRIDES, TASKS, VERDICTS


@dataclass(frozen=True, slots=True)
class Applied:
    """A task as the registry last said."""

    spec: TaskSpec
    base_digest: str


@dataclass(frozen=True, slots=True)
class Override:
    """A rule somebody undid or restored, by name and with a reason."""

    rule: str
    undone: bool
    by: str
    reason: str
    at: float


async def learn_task(unit: UnitOfWork, fact: TaskApplied) -> None:
    """Remember a task; an older revision never replaces a newer one."""
    new = {
        "revision": fact.revision,
        "spec": json.dumps(fact.spec.model_dump(mode="json", by_alias=True)),
        "base_digest": fact.base_digest,
    }
    statement = insert(unit.session, TASKS).values(tenant=fact.tenant, task=fact.task, **new)
    await unit.session.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant", "task"], set_=new, where=TASKS.c.revision < fact.revision
        )
    )


async def applied(database: Database, tenant: str, task: str) -> Applied:
    """The task; NotFound when no registry told of it."""
    async with database.reading() as session:
        row = (await session.execute(select(TASKS).where(of(TASKS, tenant, task)))).first()
    if row is None:
        raise NotFound(f"curation knows no task {task!r}; `pawl apply` declares one", field="task")
    return Applied(TaskSpec.model_validate(json.loads(row.spec)), row.base_digest)


async def override(unit: UnitOfWork, tenant: str, task: str, rule: str, *, undone: bool, by: str, reason: str) -> None:
    """Undo a rule for the versions to come, or restore it."""
    new = {"undone": undone, "decided_by": by, "reason": reason, "decided_at": time.time()}
    statement = insert(unit.session, OVERRIDES).values(tenant=tenant, task=task, rule=rule, **new)
    await unit.session.execute(statement.on_conflict_do_update(index_elements=["tenant", "task", "rule"], set_=new))


async def overrides(database: Database, tenant: str, task: str) -> list[Override]:
    """Every rule somebody decided on, by name."""
    async with database.reading() as session:
        rows = (await session.execute(select(OVERRIDES).where(of(OVERRIDES, tenant, task)))).all()
    found = [Override(row.rule, row.undone, row.decided_by, row.reason, row.decided_at) for row in rows]
    return sorted(found, key=lambda each: each.rule)


async def keep_verdicts(unit: UnitOfWork, tenant: str, task: str, scores: Mapping[str, int]) -> None:
    """Record scores by key; the first score of a key stands."""
    rows = [{"tenant": tenant, "task": task, "key": key, "score": score} for key, score in scores.items()]
    if rows:
        await unit.session.execute(insert(unit.session, VERDICTS).on_conflict_do_nothing(), rows)


async def verdicts(database: Database, tenant: str, task: str) -> dict[str, int]:
    """Scores by key."""
    query = select(VERDICTS.c.key, VERDICTS.c.score).where(of(VERDICTS, tenant, task)).order_by(VERDICTS.c.key)
    async with database.reading() as session:
        return {str(key): int(score) for key, score in (await session.execute(query)).all()}
