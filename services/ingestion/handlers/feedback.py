"""Feedback in batches: count once, join, judge, store the segment, commit, tell the outcomes, then acknowledge."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from libs.artifacts import TenantSecrets
from libs.contracts.errors import Conflict, InvalidInput, NotFound, Transient
from libs.contracts.pseudonyms import naming_key
from libs.contracts.subjects import INFERENCE
from libs.contracts.task import PersonalData, TaskSpec
from libs.eventing.batches import RawMessage
from libs.eventing.connection import NatsLink
from libs.eventing.deadletters import dead_letter
from libs.outbox.database import Database
from libs.telemetry import counter, get_logger, span
from services.ingestion.clients.tasks import Tasks
from services.ingestion.compute.redaction import Redaction
from services.ingestion.compute.segments import rows_to_parquet, weight
from services.ingestion.domain.hygiene import Echoes, Tally
from services.ingestion.domain.joined import Joined, OutcomeWords, outcome_of, row_of, said_of
from services.ingestion.domain.judgement import MOST_WORDS, crowded, judge
from services.ingestion.domain.rows import Row, count
from services.ingestion.domain.signals import Answered, Arrival, claim_of
from services.ingestion.handlers.joining import Joining, Pairs, response_of
from services.ingestion.handlers.memory import RecentInferences
from services.ingestion.handlers.outcomes import Outcomes
from services.ingestion.handlers.pace import Pace
from services.ingestion.handlers.progress import Progress
from services.ingestion.handlers.reading import Objects, owner_of, read_feedback
from services.ingestion.store import erasing
from services.ingestion.store import signals as store
from services.ingestion.store.puts import listing
from services.ingestion.store.segments import Stored
from services.ingestion.store.signals import Intaken
from services.ingestion.store.tables import Owner

log = get_logger(__name__)

SEGMENT = "segment"
_RELEASE_LIMIT = 2000
_MAX_LINKS = 64
_AT_A_STROKE = 500
"""Signals that are read or judged before others on the event loop get their turn."""
_WARY_BATCHES = 20
"""After a repetition was met, so many batches are asked about before they are written."""


class FeedbackIntake:
    """Handles batches of the stream FEEDBACK and releases signals that waited for their inference."""

    def __init__(
        self,
        database: Database,
        link: NatsLink,
        objects: Objects,
        tasks: Tasks,
        secrets: TenantSecrets,
        *,
        patience: float,
        pace: float,
        recent: RecentInferences | None = None,
        echoes: Echoes | None = None,
    ) -> None:
        """`patience` and `pace` in seconds; `recent` and `echoes` are shared with whoever logs inferences."""
        self._database = database
        self._link = link
        self._objects = objects
        self._tasks = tasks
        self._secrets = secrets
        self._patience = patience
        self._pace = Pace(pace)
        self._release_pace = Pace(pace)
        self._joining = Joining(database, recent or RecentInferences(), echoes or Echoes())
        self._outcomes = Outcomes(link)
        self._progress = Progress(link, INFERENCE, "ingestion-inference")
        self._encoder = msgspec.json.Encoder()
        self._redactions: dict[tuple[str, ...], Redaction] = {}
        self.turn = asyncio.Lock()
        """Held while signals are joined and stored: what a batch says of a response a release must have read, and an
        erasure what is joined to the words it takes away.
        """
        self._wary = 0
        self.wake = asyncio.Event()
        """Set when inferences arrived that somebody may wait for."""

    async def take(self, batch: list[RawMessage]) -> "asyncio.Task[None] | None":
        """Count every valid signal of the batch once; invalid ones become dead letters with their reason.

        Returns, when all is stored, the telling of the outcomes, which must end before the batch is acknowledged.
        """
        await self._pace.wait(len(batch))
        specs: dict[Owner, TaskSpec] = {}
        arrivals = await self._read(batch, specs)
        traces = [arrival.traceparent for arrival in arrivals if arrival.traceparent]
        with span(
            "ingest feedback", parent=traces[0] if traces else None, links=traces[1:_MAX_LINKS], rows=len(arrivals)
        ):
            doubtful = self._wary > 0 or any(message.delivered > 1 for message in batch)
            async with self.turn:
                try:
                    outcomes = await self._take(arrivals, specs, ask_first=doubtful)
                    self._wary = max(0, self._wary - 1)
                except Conflict:
                    # Most batches hold nothing seen before, so that asking first would be in vain: the database says
                    # when one does, and then it is asked.
                    self._wary = _WARY_BATCHES
                    outcomes = await self._take(arrivals, specs, ask_first=True)
            return asyncio.create_task(self._outcomes.tell(outcomes)) if outcomes else None

    async def release(self) -> int:
        """Let signals go on whose inference came, or whose patience ended; returns how many.

        Nobody's ends while the inference may still lie unread.
        """
        until = await self._progress.until()
        async with self.turn:
            mark = await self._joining.mark()
            ready = await store.ready_to_release(self._database, until, _RELEASE_LIMIT)
            by_owner: dict[Owner, list[tuple[Arrival, Answered | None]]] = defaultdict(list)
            for arrival, about in ready:
                by_owner[arrival.tenant, arrival.task].append((arrival, about))
            for owner, pairs in by_owner.items():
                traces = [arrival.traceparent for arrival, _ in pairs if arrival.traceparent]
                parent, links = (traces[0] if traces else None), traces[1:_MAX_LINKS]
                with span("join late feedback", parent=parent, links=links, task=owner[1], rows=len(pairs)):
                    tally = Tally()
                    part, outcomes = await self._part(owner, await self._spec(owner), pairs, tally, ask_first=True)
                    async with listing(self._objects, _put([part])), self._database.unit() as unit:
                        await erasing.none_since(unit, mark)
                        await store.release(unit, part, [arrival for arrival, _ in pairs], outcomes)
                    self._joining.stored(tally, [arrival for arrival, _ in pairs])
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

    async def _spec(self, owner: Owner) -> TaskSpec:
        try:
            return await self._tasks.spec(*owner)
        except NotFound:
            # The task is gone since; what waits for it must not stand in the way of the others.
            return TaskSpec(task=owner[1], base="gone")

    async def _take(
        self, arrivals: Sequence[Arrival], specs: dict[Owner, TaskSpec], *, ask_first: bool
    ) -> list[tuple[Arrival, OutcomeWords]]:
        mark = await self._joining.mark()
        fresh, again, duplicates = await self._once(arrivals, ask_first=ask_first)
        by_owner: dict[Owner, list[Arrival]] = {owner: [] for owner in duplicates}
        for arrival in fresh:
            by_owner.setdefault((arrival.tenant, arrival.task), []).append(arrival)
        parts, outcomes, tally = [], list[tuple[Arrival, OutcomeWords]](), Tally()
        for owner, group in by_owner.items():
            ready, waiting = [], []
            for arrival, about in await self._joining.inferences(owner, group):
                if about is None and arrival.feedback.request_id and self._patience > 0:
                    waiting.append(arrival)
                else:
                    ready.append((arrival, about))
            part, told = await self._part(owner, specs[owner], ready, tally, ask_first=ask_first)
            parts.append(msgspec.structs.replace(part, waiting=tuple(waiting), duplicates=duplicates.get(owner, 0)))
            outcomes += told
        if parts:
            async with listing(self._objects, _put(parts)), self._database.unit() as unit:
                await erasing.none_since(unit, mark)
                await store.take_in(unit, fresh, parts, self._patience)
            self._joining.stored(tally, fresh)
        if any(part.waiting for part in parts):
            self.wake.set()
        counter("feedback_counted", "signals counted once").inc(len(fresh))
        return [*outcomes, *await self._told_before(again)]

    async def _part(
        self, owner: Owner, spec: TaskSpec, pairs: Pairs, tally: Tally, *, ask_first: bool
    ) -> tuple[Intaken, list[tuple[Arrival, OutcomeWords]]]:
        before = await self._joining.said_before(owner, pairs, ask_first=ask_first)
        responses = [response_of(owner, arrival) for arrival, _ in pairs]
        # The last one's judgement says what all said: were it on each, rows would grow with the voices before them.
        last = {response: at for at, response in enumerate(responses)}
        rows, said = list[Row](), list[tuple[bytes, int, bytes]]()
        outcomes = list[tuple[Arrival, OutcomeWords]]()
        for at, (arrival, about) in enumerate(pairs):
            if at % _AT_A_STROKE == 0:
                await asyncio.sleep(0)
            joined = self._joining.weighed(arrival, about, spec, tally)
            user, response = joined.user, responses[at]
            if response is None:
                rows.append(row_of(joined, user, None, None))
                continue
            word = said_of(joined, user)
            words = before.setdefault(response, [])
            heard = len(words) < MOST_WORDS
            if heard:
                words.append(word)
                said.append((response, len(words), self._encoder.encode(word)))
            judgement = None
            if last[response] == at:
                answer = about.output if about is not None and not about.goes_on else None
                judgement = judge(words, answer, spec.data.sources)
                judgement = judgement if heard else crowded(judgement)
            rows.append(row_of(joined, user, judgement, len(words) + (not heard)))
            outcome = outcome_of(joined)
            if outcome is not None:
                outcomes.append((arrival, outcome))
        segment = await self._store(owner, spec, rows) if rows else None
        return Intaken(owner, segment, said=tuple(said)), outcomes

    async def _store(self, owner: Owner, spec: TaskSpec, rows: Sequence[Row]) -> Stored:
        """Put a segment into object storage; it exists once it is listed, before that it is an orphan."""
        data = await asyncio.to_thread(rows_to_parquet, rows, await self._redaction(owner, spec))
        digest = await self._objects(owner[0]).put_bytes(data, kind=SEGMENT)
        return Stored(digest, len(rows), weight(data), count(rows))

    async def _redaction(self, owner: Owner, spec: TaskSpec) -> Redaction | None:
        if not spec.data.feedback.redact:
            return None
        policy = spec.data.redact
        kinds = tuple(kind for kind, wish in policy.model_dump().items() if wish is PersonalData.REDACT)
        style = spec.data.curation.pseudonyms
        key = (*owner, style, *kinds)
        if key not in self._redactions:
            secret = await self._secrets.of(owner[0])
            self._redactions[key] = Redaction(kinds, naming_key(secret, *owner), style)
        return self._redactions[key]

    async def _once(
        self, arrivals: Sequence[Arrival], *, ask_first: bool
    ) -> tuple[list[Arrival], list[Arrival], dict[Owner, int]]:
        """The signals not counted before, those whose acknowledgement was lost, and per task how many are repeated."""
        first: dict[bytes, Arrival] = {}
        duplicates: dict[Owner, int] = defaultdict(int)
        for arrival in arrivals:
            if first.setdefault(arrival.key, arrival) is not arrival:
                duplicates[arrival.tenant, arrival.task] += 1
        again: list[Arrival] = []
        if ask_first:
            for key, stream_seq in (await store.seen(self._database, list(first))).items():
                arrival = first.pop(key)
                # The same message again is a lost acknowledgement, not a sender's repetition.
                if arrival.stream_seq == stream_seq:
                    again.append(arrival)
                else:
                    duplicates[arrival.tenant, arrival.task] += 1
        return list(first.values()), again, dict(duplicates)

    async def _told_before(self, again: Sequence[Arrival]) -> list[tuple[Arrival, OutcomeWords]]:
        """Outcomes of signals that were counted by an attempt which may not have come to tell them."""
        by_owner: dict[Owner, list[Arrival]] = defaultdict(list)
        for arrival in again:
            by_owner[arrival.tenant, arrival.task].append(arrival)
        told = []
        for owner, group in by_owner.items():
            for arrival, about in await self._joining.inferences(owner, group):
                claim = claim_of(arrival.feedback, about.output if about is not None else None)
                outcome = outcome_of(Joined(arrival, about, claim))
                if outcome is not None:
                    told.append((arrival, outcome))
        return told

    async def _read(self, batch: Sequence[RawMessage], specs: dict[Owner, TaskSpec]) -> list[Arrival]:
        owners: dict[str, Owner] = {}
        arrivals = []
        for at, message in enumerate(batch):
            if at % _AT_A_STROKE == 0:
                await asyncio.sleep(0)
            owner = owners.get(message.subject)
            try:
                if owner is None:
                    owner = owner_of(message.subject)
                    specs[owner] = await self._tasks.spec(*owner)
                    owners[message.subject] = owner
                arrivals.append(read_feedback(message, owner))
            except (InvalidInput, NotFound) as error:
                await self._refuse(message, owner, error)
        return arrivals

    async def _refuse(self, message: RawMessage, owner: Owner | None, error: InvalidInput | NotFound) -> None:
        reason = f"{error.field}: {error}" if error.field else str(error)
        await dead_letter(self._link.js, message, reason, message.delivered)
        if isinstance(error, InvalidInput) and owner is not None:
            async with self._database.unit() as unit:
                await store.reject(unit, owner, message.stream_seq)


def _put(parts: Sequence[Intaken]) -> list[tuple[str, str]]:
    return [(part.owner[0], part.segment.digest) for part in parts if part.segment is not None]
