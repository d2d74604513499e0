"""What came before a moment and is still on its way: it must be stored before a subject is said to be erased."""

import asyncio
import time
from collections.abc import Sequence

from libs.outbox.database import Database
from libs.telemetry import get_logger
from services.ingestion.handlers.progress import Progress
from services.ingestion.store import erasing
from services.ingestion.store.tables import Owner

log = get_logger(__name__)

_EVERY_SECONDS = 0.5


class Earlier:
    """Waits until no more comes that came before; `published` are the streams that bring it, imports do too."""

    def __init__(self, database: Database, published: Sequence[Progress]) -> None:
        self._database = database
        self._published = published

    async def stored(self, owner: Owner, asked_at: float) -> None:
        """Return once all that was published, and every import of the task that was begun, by `asked_at` is stored.

        `asked_at` in epoch seconds. It may take as long as the longest import, and as long as storage is away.
        """
        # Whose clock is ahead must not make it wait for what comes from now on.
        asked_at, told = min(asked_at, time.time()), None
        while (left := await self._left(owner, asked_at)) is not None:
            if left != told:
                log.info("an erasure waits for what came before it", task=owner[1], reason=left)
                told = left
            await asyncio.sleep(_EVERY_SECONDS)

    async def _left(self, owner: Owner, asked_at: float) -> str | None:
        for each in self._published:
            if await each.until() < asked_at:
                return f"messages of {each.stream} are still to be read"
        begun = await erasing.begun_before(self._database, owner, asked_at)
        return f"the import of {begun} runs" if begun is not None else None
