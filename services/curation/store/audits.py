"""The audits of a task: they quote rows, and go when somebody who may be quoted is erased."""

from collections.abc import Collection

from sqlalchemy import delete, select

from libs.outbox.database import Database
from libs.outbox.unit import UnitOfWork
from services.curation.store.dialect import insert, of
from services.curation.store.tables import AUDITS


async def add(unit: UnitOfWork, tenant: str, task: str, digests: Collection[str]) -> None:
    """Know these objects as audits."""
    rows = [{"tenant": tenant, "task": task, "digest": digest} for digest in digests]
    await unit.session.execute(insert(unit.session, AUDITS).on_conflict_do_nothing(), rows)


async def listed(database: Database, tenant: str, task: str) -> list[str]:
    """Digests of every audit of a task."""
    async with database.reading() as session:
        found = await session.execute(select(AUDITS.c.digest).where(of(AUDITS, tenant, task)).order_by(AUDITS.c.digest))
        return [str(each) for each in found.scalars()]


async def forget(unit: UnitOfWork, tenant: str, task: str) -> None:
    """Know no audit of a task any more."""
    await unit.session.execute(delete(AUDITS).where(of(AUDITS, tenant, task)))
