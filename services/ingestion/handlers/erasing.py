"""Erasure of a subject, told by curation: segments, inference log and database lose it, whatever is killed when."""

import asyncio

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
from services.ingestion.store.erasing import Replaced
from services.ingestion.store.puts import PutJournal
from services.ingestion.store.segments import Listed, segments_after
from services.ingestion.store.signals import Owner

log = get_logger(__name__)

ERASURES = "ingestion-erasures"
_ALL = 2**31


class Erasing:
    """Rewrites what held a subject.

    The new segments are listed, the old ones told and the database cleared in one transaction. Objects of the inference
    log, which nobody else reads, are deleted after it; a segment of rows is deleted by curation, once it reads the new.
    """

    def __init__(
        self, database: Database, objects: Objects, journal: PutJournal, recent: RecentInferences | None = None
    ) -> None:
        """`objects` note in `journal` what they put; `recent` is what intake holds in memory."""
        self._database = database
        self._objects = objects
        self._journal = journal
        self._recent = recent

    async def erase(self, envelope: Envelope[SubjectErased]) -> None:
        """Erase a user of a task; Conflict, to be tried again, when a segment moved meanwhile."""
        fact = envelope.data
        owner, user = (fact.tenant, fact.task), fact.user
        with span("erase subject", parent=envelope.traceparent, task=fact.task):
            segments = await segments_after(self._database, *owner, 0, _ALL)
            gone = await self._held(owner, user, segments)
            replaced = await self._rows(owner, segments, gone) if gone.rows else []
            logged = await self._inferences(owner, user)
            units = await store.units_of(self._database, owner, user)
            responses = {key_of(*owner, "", request) for request in gone.requests}
            # Noted first: what a kill leaves unlisted is swept at the next start.
            for each in logged:
                self._journal.note(fact.tenant, each.before)
            async with self._database.unit(envelope, ERASURES) as unit:
                if unit.already_handled:
                    return
                await store.replace(unit, owner, [*replaced, *logged])
                await store.forget(unit, owner, user, units, responses)
                if replaced:
                    told = tuple(
                        RewrittenSegment(number=each.number or 0, before=each.before, after=each.after or "")
                        for each in replaced
                    )
                    unit.emit(
                        SegmentsRewritten(tenant=fact.tenant, task=fact.task, user=user, segments=told),
                        output="rewritten",
                    )
            if self._recent is not None:
                self._recent.forget(*owner, units)
            for each in logged:
                await self._objects(fact.tenant).delete(each.before)
        log.info("subject erased", task=fact.task, rows=len(gone.rows), segments=len(replaced), logs=len(logged))

    async def _held(self, owner: Owner, user: str, segments: list[Listed]) -> Held:
        rows, requests = set[str](), set[str]()
        for each in segments:
            data = await self._objects(owner[0]).get_bytes(each.digest)
            found = await asyncio.to_thread(compute.held, data, user)
            rows |= found.rows
            requests |= found.requests
        return Held(frozenset(rows), frozenset(requests))

    async def _rows(self, owner: Owner, segments: list[Listed], gone: Held) -> list[Replaced]:
        replaced = []
        for each in segments:
            data = await self._objects(owner[0]).get_bytes(each.digest)
            now = await asyncio.to_thread(compute.rows_without, data, gone)
            if now is not None:
                digest = await self._objects(owner[0]).put_bytes(now[0], kind=SEGMENT)
                replaced.append(Replaced(each.number, each.digest, digest, now[1]))
        return replaced

    async def _inferences(self, owner: Owner, user: str) -> list[Replaced]:
        replaced = []
        for before in await store.inference_segments(self._database, owner):
            data = await self._objects(owner[0]).get_bytes(before)
            now = await asyncio.to_thread(compute.inferences_without, data, owner[0], user)
            if now is not None:
                after = await self._objects(owner[0]).put_bytes(now[0], kind=INFERENCE_SEGMENT) if now[1] else None
                replaced.append(Replaced(None, before, after, now[1]))
        return replaced
