"""Erasure of a subject, told by curation: segments, logs, quarantines and database lose it, whatever is killed when."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from libs.contracts.envelope import Envelope
from libs.contracts.events import RewrittenSegment, SegmentsRewritten, SubjectErased
from libs.outbox.database import Database
from libs.telemetry import get_logger, span
from services.ingestion.compute import erasing as compute
from services.ingestion.compute.erasing import Held
from services.ingestion.domain.signals import key_of
from services.ingestion.handlers.feedback import SEGMENT
from services.ingestion.handlers.inferences import INFERENCE_SEGMENT
from services.ingestion.handlers.memory import RecentInferences
from services.ingestion.handlers.reading import Objects
from services.ingestion.store import erasing as store
from services.ingestion.store import leftovers, staged
from services.ingestion.store.compaction import MOST_TOLD
from services.ingestion.store.erasing import Cleared, Replaced
from services.ingestion.store.puts import listing
from services.ingestion.store.segments import Listed, segments_after
from services.ingestion.store.tables import Owner

log = get_logger(__name__)

ERASURES = "ingestion-erasures"
QUARANTINE = "quarantine"
_ALL = 2**31


class Erasing:
    """Rewrites what held a subject.

    The new segments are listed, the old ones told and the database cleared in one transaction. Objects of the inference
    log and quarantines, which nobody else reads, are named in it to be deleted, now or by whoever tidies next; a
    segment of rows is deleted by curation, once it reads the new.
    """

    def __init__(self, database: Database, objects: Objects, recent: RecentInferences | None = None) -> None:
        """`recent` is what intake holds in memory."""
        self._database = database
        self._objects = objects
        self._recent = recent

    async def erase(self, envelope: Envelope[SubjectErased]) -> None:
        """Erase a user of a task; Conflict, to be tried again, when a segment moved meanwhile."""
        fact = envelope.data
        owner, user = (fact.tenant, fact.task), fact.user
        with span("erase subject", parent=envelope.traceparent, task=fact.task):
            # Told again, it may have been killed, or storage away, after its commit.
            await leftovers.drop(self._database, self._objects, staged.REPLACED)
            segments = await segments_after(self._database, *owner, 0, _ALL)
            logged, asked = await self._inferences(owner, user)
            gone = await self._held(owner, user, segments, asked)
            replaced = await self._rows(owner, segments, gone) if gone.rows else []
            cleared = await self._quarantines(owner, user)
            units = await store.units_of(self._database, owner, user)
            responses = {key_of(*owner, "", request): request in asked for request in gone.requests | asked}
            put = {(fact.tenant, each.after) for each in (*replaced, *logged) if each.after is not None}
            async with listing(self._objects, put), self._database.unit(envelope, ERASURES) as unit:
                if unit.already_handled:
                    return
                await store.replace(unit, owner, [*replaced, *logged])
                await store.clear(unit, cleared, compute.ERASED)
                await store.forget(unit, owner, user, units, responses, asked)
                for digest in {*(each.before for each in logged), *(each.before for each in cleared)}:
                    await staged.note(unit, fact.tenant, staged.REPLACED, digest)
                for at in range(0, len(replaced), MOST_TOLD):
                    told = tuple(
                        RewrittenSegment(number=each.number or 0, before=each.before, after=each.after or "")
                        for each in replaced[at : at + MOST_TOLD]
                    )
                    unit.emit(
                        SegmentsRewritten(tenant=fact.tenant, task=fact.task, user=user, segments=told),
                        output="rewritten",
                        key=str(at),
                    )
            if self._recent is not None:
                self._recent.forget(*owner, units)
            await leftovers.drop(self._database, self._objects, staged.REPLACED)
        log.info(
            "subject erased", task=fact.task, rows=len(gone.rows), segments=len(replaced), logs=len(logged),
            quarantines=len(cleared),
        )  # fmt: skip

    async def _held(self, owner: Owner, user: str, segments: list[Listed], asked: frozenset[str]) -> Held:
        rows, requests = set[str](), set[str]()
        for digest, _ in _objects_of(segments):
            data = await self._objects(owner[0]).get_bytes(digest)
            found = await asyncio.to_thread(compute.held, data, user, asked)
            rows |= found.rows
            requests |= found.requests
        return Held(frozenset(rows), frozenset(requests))

    async def _rows(self, owner: Owner, segments: list[Listed], gone: Held) -> list[Replaced]:
        replaced = []
        for before, numbers in _objects_of(segments):
            data = await self._objects(owner[0]).get_bytes(before)
            now = await asyncio.to_thread(compute.rows_without, data, gone, numbers)
            if now is not None:
                after = await self._objects(owner[0]).put_bytes(now[0], kind=SEGMENT)
                replaced += [
                    Replaced(number, before, after, rows) for number, rows in zip(numbers, now[1], strict=True)
                ]
        return replaced

    async def _inferences(self, owner: Owner, user: str) -> tuple[list[Replaced], frozenset[str]]:
        """Segments of the log in the place of others, and the requests that the user made."""
        replaced, asked = [], set[str]()
        for before in await store.inference_segments(self._database, owner):
            data = await self._objects(owner[0]).get_bytes(before)
            now = await asyncio.to_thread(compute.inferences_without, data, owner[0], user)
            if now is not None:
                after = await self._objects(owner[0]).put_bytes(now[0], kind=INFERENCE_SEGMENT) if now[1] else None
                replaced.append(Replaced(None, before, after, now[1]))
                asked.update(now[2])
        return replaced, frozenset(asked)

    async def _quarantines(self, owner: Owner, user: str) -> list[Cleared]:
        cleared, objects = [], self._objects(owner[0])
        for import_id, before in await store.quarantines(self._database, owner):
            # It holds whole records, and may be larger than what fits into memory.
            with TemporaryDirectory(prefix="pawl-quarantine-") as directory:
                old, new = Path(directory) / "before", Path(directory) / "after"
                await objects.fetch(before, old)
                rows = await asyncio.to_thread(compute.quarantine_without, old, new, owner[0], user)
                if rows:
                    cleared.append(Cleared(import_id, before, await objects.put_file(new, kind=QUARANTINE), rows))
        return cleared


def _objects_of(segments: Sequence[Listed]) -> list[tuple[str, list[int]]]:
    """Each object once, with the numbers of the segments in it."""
    found: dict[str, list[int]] = {}
    for each in segments:
        found.setdefault(each.digest, []).append(each.number)
    return list(found.items())
