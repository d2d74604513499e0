"""Erasure of a subject, told by curation: segments, logs, quarantines and database lose it, whatever is killed when."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from libs.artifacts.files import file_errors
from libs.contracts.envelope import Envelope
from libs.contracts.errors import Conflict, NotFound
from libs.contracts.events import RewrittenSegment, SegmentsRewritten, SubjectErased
from libs.outbox.database import Database
from libs.telemetry import get_logger, span
from services.ingestion.compute import erasing as compute
from services.ingestion.compute.erasing import Held
from services.ingestion.compute.segments import weight
from services.ingestion.domain.signals import key_of
from services.ingestion.handlers.earlier import Earlier
from services.ingestion.handlers.feedback import SEGMENT
from services.ingestion.handlers.inferences import INFERENCE_SEGMENT
from services.ingestion.handlers.memory import RecentInferences
from services.ingestion.handlers.reading import Objects
from services.ingestion.store import erasing as store
from services.ingestion.store import leftovers, staged
from services.ingestion.store.compaction import MOST_TOLD
from services.ingestion.store.erasing import ERASURES, Cleared, Replaced
from services.ingestion.store.puts import listing
from services.ingestion.store.segments import Listed, segments_after
from services.ingestion.store.tables import Owner

log = get_logger(__name__)

QUARANTINE = "quarantine"
_ALL = 2**31
_TRIES = 5
"""Another replica, an import or tidying may list more, or delete what was listed, while all that is listed is read."""


class Erasing:
    """Rewrites what held a subject.

    The new segments are listed, the old ones told and the database cleared in one transaction. Objects of the inference
    log and quarantines, which nobody else reads, are named in it to be deleted, now or by whoever tidies next; a
    segment of rows is deleted by curation, once it reads the new.
    """

    def __init__(
        self,
        database: Database,
        objects: Objects,
        recent: RecentInferences | None = None,
        turn: asyncio.Lock | None = None,
        earlier: Earlier | None = None,
    ) -> None:
        """`recent` is what intake holds in memory, `turn` is intake's; `earlier` knows what is still on its way."""
        self._database = database
        self._objects = objects
        self._recent = recent
        self._turn = turn or asyncio.Lock()
        self._earlier = earlier

    async def erase(self, envelope: Envelope[SubjectErased]) -> None:
        """Erase a user of a task, once all is stored that came before he asked for it.

        Conflict, to be tried again, when a segment moved meanwhile.
        """
        fact = envelope.data
        owner, user = (fact.tenant, fact.task), fact.user
        with span("erase subject", parent=envelope.traceparent, task=fact.task):
            # Told again, it may have been killed, or storage away, after its commit.
            await leftovers.drop(self._database, self._objects, staged.REPLACED)
            if self._earlier is not None:
                await self._earlier.stored(owner, envelope.time.timestamp())
            done = _Done()
            # Most is read while signals go on. Then they wait, and what came meanwhile is read: what was joined to his
            # words is stored by then, and what is joined later finds none.
            with suppress(NotFound):
                await self._plan(owner, user, done)
            async with listing(self._objects, done.put), self._turn:
                for left in reversed(range(_TRIES)):
                    try:
                        # What is always being added to is read at last while nobody can.
                        ahead = await self._plan(owner, user, done) if left else None
                        plan = await self._commit(envelope, owner, ahead, done)
                        break
                    except (Conflict, NotFound):
                        if not left:
                            raise
            await leftovers.drop(self._database, self._objects, staged.REPLACED)
        if plan is not None:
            log.info(
                "subject erased", task=fact.task, rows=len(plan.gone.rows), segments=len(plan.replaced),
                logs=len(plan.logged), quarantines=len(plan.cleared),
            )  # fmt: skip

    async def _plan(self, owner: Owner, user: str, done: "_Done") -> "_Plan":
        """What is to be replaced by what; what is in `done` is not read again."""
        listed = await self._listed(owner)
        segments, logs, aside = listed
        logged, asked = await self._inferences(owner, user, logs, done)
        gone = await self._held(owner, user, segments, asked, done)
        replaced = await self._rows(owner, segments, gone, done) if gone.rows else []
        return _Plan(listed, asked, gone, replaced, logged, await self._quarantines(owner, user, aside, done))

    async def _commit(
        self, envelope: Envelope[SubjectErased], owner: Owner, plan: "_Plan | None", done: "_Done"
    ) -> "_Plan | None":
        """Carry out the plan, or the one that is made here; Conflict where anything was listed since.

        Returns what was carried out; None where the erasure was handled before.
        """
        fact = envelope.data
        async with self._database.unit(envelope, ERASURES) as unit:
            if unit.already_handled:
                return None
            if plan is None:
                plan = await self._plan(owner, fact.user, done)
            elif await self._listed(owner) != plan.listed:
                raise Conflict("more was listed meanwhile", reason="SEGMENTS_ADDED")
            spoken_of = plan.gone.requests | plan.asked
            responses = {key_of(*owner, "", request): request in plan.asked for request in spoken_of}
            units = await store.units_of(self._database, owner, fact.user)
            await store.replace(unit, owner, [*plan.replaced, *plan.logged])
            await store.clear(unit, plan.cleared, compute.ERASED)
            await store.forget(unit, owner, fact.user, units, responses, plan.asked)
            # Of what was put the last attempt lists its own: the rest has no place either.
            olds = {each.before for each in plan.logged} | {each.before for each in plan.cleared}
            for digest in olds | {digest for _, digest in done.put}:
                await staged.replaced(unit, fact.tenant, digest)
            for at in range(0, len(plan.replaced), MOST_TOLD):
                told = tuple(
                    RewrittenSegment(number=each.number or 0, before=each.before, after=each.after or "")
                    for each in plan.replaced[at : at + MOST_TOLD]
                )
                unit.emit(
                    SegmentsRewritten(tenant=fact.tenant, task=fact.task, user=fact.user, segments=told),
                    output="rewritten",
                    key=str(at),
                )
        if self._recent is not None:
            self._recent.forget(*owner, units)
        return plan

    async def _listed(self, owner: Owner) -> "_Listing":
        segments = await segments_after(self._database, *owner, 0, _ALL)
        logs = await store.inference_segments(self._database, owner)
        return segments, logs, await store.quarantines(self._database, owner)

    async def _held(
        self, owner: Owner, user: str, segments: list[Listed], asked: frozenset[str], done: "_Done"
    ) -> Held:
        rows, requests = set[str](), set[str]()
        for digest, _ in _objects_of(segments):
            key = digest, asked
            if key not in done.held:
                data = await self._objects(owner[0]).get_bytes(digest)
                done.held[key] = await asyncio.to_thread(compute.held, data, user, asked)
            rows |= done.held[key].rows
            requests |= done.held[key].requests
        return Held(frozenset(rows), frozenset(requests))

    async def _rows(self, owner: Owner, segments: list[Listed], gone: Held, done: "_Done") -> list[Replaced]:
        replaced = []
        for before, numbers in _objects_of(segments):
            key = before, tuple(numbers), gone
            if key not in done.rows:
                data = await self._objects(owner[0]).get_bytes(before)
                now = await asyncio.to_thread(compute.rows_without, data, gone, numbers)
                after = await self._put(owner, now[0], SEGMENT, done) if now is not None else None
                done.rows[key] = [] if now is None else [
                    Replaced(number, before, after, rows) for number, rows in zip(numbers, now[1], strict=True)
                ]  # fmt: skip
            replaced += done.rows[key]
        return replaced

    async def _inferences(
        self, owner: Owner, user: str, logs: Sequence[str], done: "_Done"
    ) -> tuple[list[Replaced], frozenset[str]]:
        """Segments of the log in the place of others, and the requests that the user made."""
        replaced, asked = [], set[str]()
        for before in logs:
            if before not in done.logs:
                done.logs[before] = await self._log(owner, user, before, done)
            found = done.logs[before]
            if found is not None:
                replaced.append(found[0])
                asked.update(found[1])
        return replaced, frozenset(asked)

    async def _log(self, owner: Owner, user: str, before: str, done: "_Done") -> tuple[Replaced, list[str]] | None:
        data = await self._objects(owner[0]).get_bytes(before)
        now = await asyncio.to_thread(compute.inferences_without, data, owner[0], user)
        if now is None:
            return None
        after = await self._put(owner, now[0], INFERENCE_SEGMENT, done) if now[1] else None
        return Replaced(None, before, after, now[1], weight(now[0])), now[2]

    async def _quarantines(
        self, owner: Owner, user: str, aside: Sequence[tuple[str, str]], done: "_Done"
    ) -> list[Cleared]:
        objects = self._objects(owner[0])
        for import_id, before in aside:
            if (import_id, before) in done.aside:
                continue
            # It holds whole records, and may be larger than what fits into memory.
            with file_errors(Path(gettempdir())), TemporaryDirectory(prefix="pawl-quarantine-") as directory:
                old, new = Path(directory) / "before", Path(directory) / "after"
                await objects.fetch(before, old)
                rows = await asyncio.to_thread(compute.quarantine_without, old, new, owner[0], user)
                after = await objects.put_file(new, kind=QUARANTINE) if rows else before
                done.aside[import_id, before] = Cleared(import_id, before, after, rows)
        return [done.aside[each] for each in aside if done.aside[each].rows]

    async def _put(self, owner: Owner, data: bytes, kind: str, done: "_Done") -> str:
        digest = await self._objects(owner[0]).put_bytes(data, kind=kind)
        done.put.add((owner[0], digest))
        return digest


_Listing = tuple[list[Listed], list[str], list[tuple[str, str]]]
"""All that a task has listed: segments of rows, of the inference log, and quarantines."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What of all that is listed is replaced; `asked` are the user's requests."""

    listed: _Listing
    asked: frozenset[str]
    gone: Held
    replaced: list[Replaced]
    logged: list[Replaced]
    cleared: list[Cleared]


@dataclass(slots=True)
class _Done:
    """What one erasure has read, by what it was read for, and the segments it put (tenant and digest)."""

    held: dict[tuple[str, frozenset[str]], Held] = field(default_factory=dict)
    rows: dict[tuple[str, tuple[int, ...], Held], list[Replaced]] = field(default_factory=dict)
    logs: dict[str, tuple[Replaced, list[str]] | None] = field(default_factory=dict)
    aside: dict[tuple[str, str], Cleared] = field(default_factory=dict)
    put: set[tuple[str, str]] = field(default_factory=set)


def _objects_of(segments: Sequence[Listed]) -> list[tuple[str, list[int]]]:
    """Each object once, with the numbers of the segments in it."""
    found: dict[str, list[int]] = {}
    for each in segments:
        found.setdefault(each.digest, []).append(each.number)
    return list(found.items())
