"""Feedback and inference log in batches: count once, join, store the segment, commit, and only then acknowledge."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from libs.artifacts import ObjectStore
from libs.contracts.errors import InvalidInput, NotFound, Transient
from libs.contracts.feedback import Feedback
from libs.contracts.ids import check_name
from libs.contracts.inference import Inference, Role
from libs.eventing.batches import RawMessage
from libs.eventing.cloudevents import attributes, decode, has_attributes, payload
from libs.eventing.connection import NatsLink
from libs.eventing.deadletters import dead_letter
from libs.outbox.database import Database
from libs.telemetry import counter, get_logger, span, valid_traceparent
from services.ingestion.clients.tasks import Tasks
from services.ingestion.compute.segments import inferences_to_parquet, rows_to_parquet
from services.ingestion.domain.rows import Row, count
from services.ingestion.domain.signals import Address, Answered, Arrival, answered, outcome_of, row_of
from services.ingestion.store import signals as store
from services.ingestion.store.segments import Stored
from services.ingestion.store.signals import Intaken, Owner

log = get_logger(__name__)

SEGMENT, INFERENCE_SEGMENT = "segment", "inference-segment"
_FULL_ENOUGH = 200
_RELEASE_LIMIT = 2000
_MAX_LINKS = 64
_MAX_ID = 300

Objects = Callable[[str], ObjectStore]
"""The object store of a tenant."""


class Pace:
    """Lets a quiet stream's messages gather, so that a trickle does not become a segment per message."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = 0.0

    async def wait(self, size: int) -> None:
        """Wait until `seconds` have passed since the batch before, unless this one is large already."""
        left = self._last + self._seconds - time.monotonic()
        if size < _FULL_ENOUGH and left > 0:
            await asyncio.sleep(left)
        self._last = time.monotonic()


class FeedbackIntake:
    """Handles batches of the stream FEEDBACK and releases signals that waited for their inference."""

    def __init__(
        self, database: Database, link: NatsLink, objects: Objects, tasks: Tasks, *, patience: float, pace: float
    ) -> None:
        self._database = database
        self._link = link
        self._objects = objects
        self._tasks = tasks
        self._patience = patience
        self._pace = Pace(pace)
        self._release_pace = Pace(pace)
        self.wake = asyncio.Event()
        """Set when inferences arrived that somebody may wait for."""

    async def take(self, batch: list[RawMessage]) -> None:
        """Count every valid signal of the batch once; invalid ones become dead letters with their reason."""
        await self._pace.wait(len(batch))
        arrivals = [arrival for message in batch if (arrival := await self._read(message)) is not None]
        traces = [arrival.traceparent for arrival in arrivals if arrival.traceparent]
        with span(
            "ingest feedback", parent=traces[0] if traces else None, links=traces[1:_MAX_LINKS], rows=len(arrivals)
        ):
            await self._take(arrivals)

    async def release(self) -> int:
        """Let signals go on whose inference came, or whose patience ended; returns how many."""
        ready = await store.ready_to_release(self._database, time.time(), _RELEASE_LIMIT)
        by_owner: dict[Owner, list[tuple[Arrival, Answered | None]]] = defaultdict(list)
        for arrival, about in ready:
            by_owner[arrival.address.tenant, arrival.address.task].append((arrival, about))
        for owner, pairs in by_owner.items():
            first = pairs[0][0].traceparent
            with span("join late feedback", parent=first, task=owner[1], rows=len(pairs)):
                part = await self._part(owner, pairs, (), 0)
                async with self._database.unit() as unit:
                    await store.release(unit, part, [arrival for arrival, _ in pairs])
        return len(ready)

    async def run_releases(self) -> None:
        """Release until cancelled: after each batch of inferences, and every second for those whose patience ends."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.wake.wait(), 1.0)
            self.wake.clear()
            await self._release_pace.wait(0)
            try:
                while await self.release() == _RELEASE_LIMIT:
                    continue
            except Transient as error:
                log.warning("late feedback waits on", reason=str(error))

    async def _take(self, arrivals: Sequence[Arrival]) -> None:
        fresh, duplicates = await self._once(arrivals)
        by_owner: dict[Owner, list[Arrival]] = {owner: [] for owner in duplicates}
        for arrival in fresh:
            by_owner.setdefault((arrival.address.tenant, arrival.address.task), []).append(arrival)
        parts = []
        for owner, group in by_owner.items():
            asked = {each.feedback.request_id for each in group if each.feedback.request_id}
            found = await store.inferences(self._database, owner, asked)
            ready, waiting = [], []
            for arrival in group:
                about = found.get(arrival.feedback.request_id or "")
                if about is None and arrival.feedback.request_id and self._patience > 0:
                    waiting.append(arrival)
                else:
                    ready.append((arrival, about))
            parts.append(await self._part(owner, ready, waiting, duplicates.get(owner, 0)))
        if not parts:
            return
        async with self._database.unit() as unit:
            await store.take_in(unit, fresh, parts, self._patience)
        if any(part.waiting for part in parts):
            self.wake.set()
        counter("feedback_counted", "signals counted once").inc(len(fresh))

    async def _part(
        self,
        owner: Owner,
        ready: Sequence[tuple[Arrival, Answered | None]],
        waiting: Sequence[Arrival],
        duplicates: int,
    ) -> Intaken:
        rows = [row_of(arrival, about) for arrival, about in ready]
        outcomes = tuple((arrival, outcome_of(arrival, about)) for arrival, about in ready if about is not None)
        segment = await store_rows(self._objects(owner[0]), rows) if rows else None
        return Intaken(owner, segment, outcomes, tuple(waiting), duplicates)

    async def _once(self, arrivals: Sequence[Arrival]) -> tuple[list[Arrival], dict[Owner, int]]:
        """The signals not counted before, and per task how many were."""
        first: dict[Address, Arrival] = {}
        duplicates: dict[Owner, int] = defaultdict(int)
        for arrival in arrivals:
            if first.setdefault(arrival.address, arrival) is not arrival:
                duplicates[arrival.address.tenant, arrival.address.task] += 1
        known = await store.seen(self._database, list(first))
        for address, stream_seq in known.items():
            # The same message again is a lost acknowledgement, not a sender's repetition.
            if first.pop(address).stream_seq != stream_seq:
                duplicates[address.tenant, address.task] += 1
        return list(first.values()), dict(duplicates)

    async def _read(self, message: RawMessage) -> Arrival | None:
        try:
            owner = owner_of(message.subject)
        except InvalidInput as error:
            await dead_letter(self._link.js, message, f"{error.field}: {error}", message.delivered)
            return None
        try:
            await self._tasks.spec(*owner)
            return read_feedback(message, owner)
        except (InvalidInput, NotFound) as error:
            reason = f"{error.field}: {error}" if error.field else str(error)
            await dead_letter(self._link.js, message, reason, message.delivered)
            if isinstance(error, InvalidInput):
                async with self._database.unit() as unit:
                    await store.reject(unit, owner, message.stream_seq)
            return None


class InferenceIntake:
    """Handles batches of the stream INFERENCE: the log goes to object storage, its joinable part to the database."""

    def __init__(
        self, database: Database, link: NatsLink, objects: Objects, *, arrived: Callable[[], None], pace: float
    ) -> None:
        self._database = database
        self._link = link
        self._objects = objects
        self._arrived = arrived
        self._pace = Pace(pace)

    async def take(self, batch: list[RawMessage]) -> None:
        """Store a batch of the log; what is not an inference becomes a dead letter."""
        await self._pace.wait(len(batch))
        by_owner: dict[Owner, list[Inference]] = defaultdict(list)
        for message in batch:
            try:
                owner = owner_of(message.subject)
                if has_attributes(message.headers):
                    inference = decode(Inference, message.subject, message.data, message.headers).data
                else:
                    inference = payload(Inference, message.data)
                by_owner[owner].append(inference)
            except InvalidInput as error:
                await dead_letter(self._link.js, message, f"{error.field}: {error}", message.delivered)
        stored = []
        for owner, given in by_owner.items():
            logged, joinable = await self._once(owner, given)
            if not logged:
                continue
            data = await asyncio.to_thread(inferences_to_parquet, logged)
            digest = await self._objects(owner[0]).put_bytes(data, kind=INFERENCE_SEGMENT)
            stored.append((owner, joinable, digest, len(logged)))
        async with self._database.unit() as unit:
            for owner, joinable, digest, size in stored:
                await store.log_inferences(unit, owner, joinable, digest, size)
        self._arrived()

    async def _once(self, owner: Owner, logged: Sequence[Inference]) -> tuple[list[Inference], list[Answered]]:
        """The records not stored before, and the first answer to each request that has none yet.

        Attempts that failed are records too, each of its own, but never stand in the way of the answer that came.
        """
        first: dict[tuple[str, Role, datetime | None], Inference] = {}
        for each in logged:
            first.setdefault((each.request_id, each.role, each.created_at if each.error is not None else None), each)
        known = await store.inferences(self._database, owner, {each.request_id for each in logged})
        fresh: list[Inference] = []
        joinable: dict[str, Answered] = {}
        for each in first.values():
            stored = known.get(each.request_id)
            if stored is not None and stored.role is each.role:
                continue
            fresh.append(each)
            if stored is None and each.error is None:
                joinable.setdefault(each.request_id, answered(each))
        return fresh, list(joinable.values())


async def store_rows(objects: ObjectStore, rows: Sequence[Row]) -> Stored:
    """Put a segment into object storage; it exists once it is listed, before that it is an orphan without effect."""
    data = await asyncio.to_thread(rows_to_parquet, rows)
    digest = await objects.put_bytes(data, kind=SEGMENT)
    return Stored(digest, len(rows), count(rows))


def owner_of(subject: str) -> Owner:
    """Tenant and task of `<stream>.<tenant>.<task>`; InvalidInput when the subject is anything else."""
    tokens = subject.split(".")
    if len(tokens) != 3:
        raise InvalidInput(f"{subject!r} is not <stream>.<tenant>.<task>", field="subject")
    return check_name(tokens[1], "tenant"), check_name(tokens[2], "task")


def read_feedback(message: RawMessage, owner: Owner) -> Arrival:
    """One signal, with CloudEvents headers or as a plain JSON body; InvalidInput names the field.

    The id is the body's, else the CloudEvents id, else the stream sequence (then nothing is deduplicated).
    """
    trace = next((value for name, value in message.headers.items() if name.lower() == "traceparent"), None)
    if has_attributes(message.headers):
        given = attributes(message.headers)
        feedback = decode(Feedback, message.subject, message.data, message.headers).data
        event_id, trace = given.id, given.traceparent or trace
    else:
        feedback, event_id = payload(Feedback, message.data), None
    for name in ("id", "source", "request_id"):
        if "\x00" in (getattr(feedback, name) or ""):
            raise InvalidInput("a NUL character cannot be part of a key", field=name)
    if feedback.created_at is not None and feedback.created_at.tzinfo is None:
        feedback = feedback.model_copy(update={"created_at": feedback.created_at.replace(tzinfo=UTC)})
    signal_id = feedback.id or event_id or f"{message.stream}:{message.stream_seq}"
    if len(signal_id) > _MAX_ID:
        raise InvalidInput(f"the id has {len(signal_id)} characters, more than {_MAX_ID}", field="id")
    return Arrival(
        address=Address(*owner, feedback.source, signal_id),
        feedback=feedback,
        arrived_at=datetime.fromtimestamp(message.timestamp_ns / 1e9, UTC),
        stream_seq=message.stream_seq,
        traceparent=trace if valid_traceparent(trace) else None,
    )
