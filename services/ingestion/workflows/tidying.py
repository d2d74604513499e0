"""Small objects become large ones, and objects that nothing names go."""

import asyncio
import time
from collections.abc import Callable

from libs.artifacts import ObjectStore
from libs.contracts.errors import Conflict, NotFound, Transient
from libs.outbox.database import Database
from libs.telemetry import counter, get_logger, span
from services.ingestion.compute.segments import merged, together
from services.ingestion.store import compaction, leftovers, staged
from services.ingestion.store.puts import PutJournal, listing, unlisted
from services.ingestion.store.segments import Size

log = get_logger(__name__)

SMALL = Size(5000, 8 * 1024**2)
MOST = Size(50_000, 64 * 1024**2)
"""Of one object: whoever merges or erases holds it in memory."""
LEAST_SEGMENTS = 32
SETTLED_SECONDS = 600.0
SILENT_SECONDS = 6 * 3600.0
"""A part of an import takes seconds: what was silent so long was killed."""
LOST_SECONDS = 24 * 3600.0
"""What was put so long ago and is not listed never will be."""
_EVERY_SECONDS = 60.0
_SWEEP_SECONDS = 3600.0


class Tidying:
    """Compacts small objects and sweeps what a kill left behind.

    The inference log is nobody else's and is merged as it is. Segments of rows are known by number and digest: they
    keep their numbers and rows and share an object; whoever reads them is told, and deletes the old objects then.
    """

    def __init__(
        self,
        database: Database,
        objects: Callable[[str], ObjectStore],
        journal: PutJournal,
        *,
        small: Size = SMALL,
        most: Size = MOST,
        least: int = LEAST_SEGMENTS,
        settled: float = SETTLED_SECONDS,
    ) -> None:
        """Segments below `small` are merged up to `most`, once a task has `least` of them.

        Segments of rows are left alone for `settled` seconds, in which those who were told of them come for them.
        """
        self._settled = settled
        self._database = database
        self._objects = objects
        self._journal = journal
        self._small, self._most, self._least = small, most, least

    async def start(self) -> None:
        """Close and delete what the process before this one left; call it before anything is put."""
        if self._database.is_sqlite:
            # Its lock says that no other replica imports.
            await self.give_up(0.0)
        await self.sweep()

    async def sweep(self, older: float = 0.0) -> int:
        """Delete what this replica put more than `older` seconds ago and nobody lists; returns how much.

        The journal is this replica's, and no other puts the same bytes.
        """
        noted = self._journal.noted()
        left = await unlisted(self._database, set(noted))
        lost = sorted(each for each in left if noted[each] <= time.time() - older)
        for tenant, digest in lost:
            await self._objects(tenant).delete(digest)
        self._journal.forget((noted.keys() - left) | set(lost))
        if lost:
            log.info("orphans swept", objects=len(lost))
        return len(lost)

    async def give_up(self, silent: float = SILENT_SECONDS) -> int:
        """Close imports that gave no sign for `silent` seconds and delete what any left; returns how many objects."""
        async with self._database.unit() as unit:
            closed = await staged.give_up(unit, time.time() - silent)
        gone = await leftovers.drop(self._database, self._objects)
        if closed or gone:
            log.info("imports given up", imports=closed, objects=gone)
        return gone

    async def compact(self) -> int:
        """Merge small segments of the inference log, task by task; returns how many objects are fewer."""
        fewer = 0
        for owner in await compaction.crowded(self._database, self._small, self._least):
            old = await compaction.small_segments(self._database, owner, self._small, self._most)
            if len(old) < 2:
                continue
            with span("compact inference log", task=owner[1], segments=len(old)):
                store = self._objects(owner[0])
                parts = [await store.get_bytes(digest) for digest, _ in old]
                whole = await store.put_bytes(await asyncio.to_thread(merged, parts), kind="inference-segment")
                async with listing(self._objects, [(owner[0], whole)]), self._database.unit() as unit:
                    await compaction.replace(unit, owner, old, whole)
                    for digest, _ in old:
                        await staged.replaced(unit, owner[0], digest)
                await leftovers.drop(self._database, self._objects, staged.REPLACED)
            fewer += len(old) - 1
        counter("inference_segments_merged", "small segments of the inference log that became part of one").inc(fewer)
        return fewer

    async def gather(self) -> int:
        """Put small segments of rows that follow each other into one object; returns how many objects are fewer."""
        before, fewer = time.time() - self._settled, 0
        for owner in await compaction.crowded_rows(self._database, self._small, self._least, before):
            segments = await compaction.neighbours(self._database, owner, self._small, self._most, self._least, before)
            if not segments:
                continue
            olds = {each.digest for each in segments}
            with span("gather segments", task=owner[1], segments=len(segments)):
                store = self._objects(owner[0])
                held = {digest: await store.get_bytes(digest) for digest in sorted(olds)}
                parts = [(each.number, held[each.digest]) for each in segments]
                whole = await store.put_bytes(await asyncio.to_thread(together, parts), kind="segment")
                # A segment that moved lost a subject: what was read of it before must not stay.
                async with listing(self._objects, [(owner[0], whole)]), self._database.unit() as unit:
                    await compaction.relist(unit, owner, segments, whole)
            fewer += len(olds) - 1
        counter("segments_gathered", "small objects of rows that became part of one").inc(fewer)
        return fewer

    async def run(self) -> None:
        """Tidy until cancelled."""
        swept = time.monotonic()
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            try:
                await self.compact()
                await self.gather()
                await self.give_up()
                if self._journal.long or time.monotonic() > swept + _SWEEP_SECONDS:
                    await self.sweep(LOST_SECONDS)
                    swept = time.monotonic()
            except (Transient, NotFound, Conflict) as error:
                log.warning("tidying waits", reason=str(error))
