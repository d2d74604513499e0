"""Objects that the database names to be deleted go: of imports that were refused or killed, and what took no place."""

from collections.abc import Callable

from libs.artifacts import ObjectStore
from libs.outbox.database import Database
from services.ingestion.store import staged


async def drop(database: Database, objects: Callable[[str], ObjectStore], import_id: str | None = None) -> int:
    """Delete what `import_id`, or whatever does not run, left; returns how many objects went.

    Any replica may do so at any time: an object that is listed stays, and one that is about to be put again is put
    after it went.
    """
    gone = 0
    for each in await staged.leftovers(database, import_id):
        async with database.unit() as unit:
            if await staged.forget(unit, each):
                await objects(each.tenant).delete(each.digest)
                gone += 1
    return gone
