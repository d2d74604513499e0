"""Objects on their way: those of an import before they are put, and those that lost their place until they went."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import delete, func, select, update

from libs.outbox.database import Database
from libs.outbox.unit import UnitOfWork
from services.ingestion.store.tables import IMPORTED, IMPORTS, INFERENCE_SEGMENTS, SEGMENTS, STAGED, insert

RUNNING, FAILED = "running", "failed"
REPLACED = "replaced"
"""In the place of an import: objects that nothing lists any more, and that are to be deleted."""
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Leftover:
    """An object that an import named, and did not list when it ended."""

    tenant: str
    digest: str
    import_id: str


async def note(unit: UnitOfWork, tenant: str, import_id: str, digest: str) -> None:
    """An import is about to put an object; one that another import left is taken over."""
    statement = insert(unit.session, STAGED).values(tenant=tenant, digest=digest, import_id=import_id)
    await unit.session.execute(
        statement.on_conflict_do_update(index_elements=["tenant", "digest"], set_={"import_id": import_id})
    )


async def replaced(unit: UnitOfWork, tenant: str, digest: str) -> None:
    """An object has no place any more; where an import is about to list the same, that is as it was."""
    statement = insert(unit.session, STAGED).values(tenant=tenant, digest=digest, import_id=REPLACED)
    await unit.session.execute(statement.on_conflict_do_nothing(index_elements=["tenant", "digest"]))


async def listed(unit: UnitOfWork, tenant: str, digests: Collection[str]) -> None:
    """These objects have a name elsewhere now."""
    every = sorted(digests)
    for at in range(0, len(every), _CHUNK):
        chunk = every[at : at + _CHUNK]
        await unit.session.execute(delete(STAGED).where(STAGED.c.tenant == tenant, STAGED.c.digest.in_(chunk)))


async def give_up(unit: UnitOfWork, before: float) -> int:
    """Close as failed the imports that gave no sign since `before` (epoch seconds); returns how many."""
    dead = (IMPORTS.c.state == RUNNING, func.coalesce(IMPORTS.c.seen_at, IMPORTS.c.started_at) < before)
    closing = update(IMPORTS).where(*dead).values(state=FAILED, accepted=0).returning(IMPORTS.c.import_id)
    closed = list((await unit.session.execute(closing)).scalars())
    for import_id in closed:
        await unit.session.execute(delete(IMPORTED).where(IMPORTED.c.import_id == import_id))
    return len(closed)


async def leftovers(database: Database, import_id: str | None = None) -> list[Leftover]:
    """What imports that do not run left, or what that one did."""
    query = (
        select(STAGED.c.tenant, STAGED.c.digest, STAGED.c.import_id)
        .outerjoin(IMPORTS, IMPORTS.c.import_id == STAGED.c.import_id)
        .where(func.coalesce(IMPORTS.c.state, FAILED) != RUNNING)
    )
    if import_id is not None:
        query = query.where(STAGED.c.import_id == import_id)
    async with database.reading() as session:
        return [Leftover(*map(str, row)) for row in (await session.execute(query)).all()]


async def forget(unit: UnitOfWork, leftover: Leftover) -> bool:
    """Forget a leftover; whether its object may be deleted before this unit ends.

    Until then whoever is about to put the same bytes waits with its `note`, and puts them again.
    """
    mine = (STAGED.c.tenant == leftover.tenant, STAGED.c.digest == leftover.digest)
    gone = await unit.session.execute(delete(STAGED).where(*mine, STAGED.c.import_id == leftover.import_id))
    if not gone.rowcount:  # type: ignore[attr-defined]
        return False
    for column in (SEGMENTS.c.digest, INFERENCE_SEGMENTS.c.digest, IMPORTS.c.quarantine):
        if await unit.session.scalar(select(column).where(column == leftover.digest).limit(1)) is not None:
            return False
    return True
