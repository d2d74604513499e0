"""What a build is about to put: known before it is there, until a version holds it or it is deleted again.

What a killed build left stays known, so that an erasure, and the task's next build, find it.
"""

from collections.abc import Collection

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from libs.outbox.database import Database
from libs.outbox.unit import UnitOfWork
from services.curation.store.dialect import insert, of
from services.curation.store.tables import STAGED


async def add(unit: UnitOfWork, tenant: str, task: str, digests: Collection[str]) -> None:
    """Know these objects."""
    rows = [{"tenant": tenant, "task": task, "digest": digest} for digest in digests]
    if rows:
        await unit.session.execute(insert(unit.session, STAGED).on_conflict_do_nothing(), rows)


async def listed(database: Database, tenant: str, task: str) -> set[str]:
    """Digests of every object of a task that no version was made of yet."""
    async with database.reading() as session:
        return await _listed(session, tenant, task)


async def still(unit: UnitOfWork, tenant: str, task: str, digests: Collection[str]) -> set[str]:
    """Those of the digests that no version was made of by now."""
    return set(digests) & await _listed(unit.session, tenant, task)


async def forget(unit: UnitOfWork, tenant: str, task: str, digests: Collection[str]) -> None:
    """Know these no more: a version holds them, or they are gone."""
    for digest in digests:
        await unit.session.execute(delete(STAGED).where(of(STAGED, tenant, task), STAGED.c.digest == digest))


async def _listed(session: AsyncSession, tenant: str, task: str) -> set[str]:
    found = await session.execute(select(STAGED.c.digest).where(of(STAGED, tenant, task)))
    return {str(each) for each in found.scalars()}
