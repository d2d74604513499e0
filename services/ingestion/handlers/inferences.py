"""The inference log in batches: each record once in a segment, its joinable part at hand for feedback."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime

from libs.contracts.errors import InvalidInput
from libs.contracts.inference import Inference, Role
from libs.eventing.batches import RawMessage
from libs.eventing.cloudevents import decode, has_attributes, payload
from libs.eventing.connection import NatsLink
from libs.eventing.deadletters import dead_letter
from libs.outbox.database import Database
from services.ingestion.compute.segments import inferences_to_parquet, weight
from services.ingestion.domain.hygiene import LEAST_ECHO, MOST_ECHOES, Echoes
from services.ingestion.domain.signals import Answered, answered, key_of
from services.ingestion.handlers.memory import RecentInferences
from services.ingestion.handlers.pace import Pace
from services.ingestion.handlers.reading import Objects, owner_of
from services.ingestion.store import erasing, signals
from services.ingestion.store import inferences as store
from services.ingestion.store.puts import listing
from services.ingestion.store.segments import Size
from services.ingestion.store.tables import Owner

INFERENCE_SEGMENT = "inference-segment"


class InferenceIntake:
    """Handles batches of the stream INFERENCE: the log goes to object storage, its joinable part to the database."""

    def __init__(
        self,
        database: Database,
        link: NatsLink,
        objects: Objects,
        *,
        arrived: Callable[[], None],
        pace: float,
        recent: RecentInferences | None = None,
        echoes: Echoes | None = None,
    ) -> None:
        """`arrived` is called when inferences were stored; `recent` and `echoes` are told of them."""
        self._database = database
        self._link = link
        self._objects = objects
        self._arrived = arrived
        self._pace = Pace(pace)
        self._recent = recent
        self._echoes = echoes

    async def recall(self) -> None:
        """Know the answers of before this process began."""
        if self._echoes is not None:
            async for owner, given in store.answers(self._database, MOST_ECHOES, LEAST_ECHO):
                self._echoes.heard(*owner, given)

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
        mark = await erasing.mark(self._database)
        if self._recent is not None:
            self._recent.heed(mark)
        stored = []
        for owner, given in by_owner.items():
            logged, joinable, others = await self._once(owner, given)
            if not logged:
                continue
            data = await asyncio.to_thread(inferences_to_parquet, logged)
            digest = await self._objects(owner[0]).put_bytes(data, kind=INFERENCE_SEGMENT)
            stored.append((owner, joinable, others, digest, Size(len(logged), weight(data))))
        put = [(owner[0], digest) for owner, _, _, digest, _ in stored]
        async with listing(self._objects, put), self._database.unit() as unit:
            for owner, joinable, others, digest, size in stored:
                await store.log(unit, owner, joinable, digest, size, others)
        for owner, joinable, *_ in stored:
            if self._recent is not None:
                self._recent.add(*owner, joinable, mark)
            if self._echoes is not None:
                self._echoes.heard(*owner, ((each.output, each.version) for each in joinable))
        self._arrived()

    async def _once(
        self, owner: Owner, logged: Sequence[Inference]
    ) -> tuple[list[Inference], list[Answered], list[bytes]]:
        """The records not stored before, the first answer to each request that has none yet, and keys of the others.

        Attempts that failed and what another role answered are records too, each of its own, but never stand in the way
        of the answer that came.
        """
        first: dict[tuple[str, Role, datetime | None], Inference] = {}
        for each in logged:
            first.setdefault((each.request_id, each.role, each.created_at if each.error is not None else None), each)
        known = await store.find(self._database, owner, {each.request_id for each in logged})
        joinable: dict[str, Answered] = {}
        found: list[tuple[Inference, bytes | None]] = []
        for (request_id, role, failed_at), each in first.items():
            stored = known.get(request_id)
            if failed_at is None and stored is not None and stored.role is role:
                continue
            if failed_at is None and stored is None and request_id not in joinable:
                joinable[request_id] = answered(each)
                found.append((each, None))
            else:
                found.append((each, key_of(*owner, "", request_id, role.value, str(failed_at or ""))))
        others = [key for _, key in found if key is not None]
        seen = await signals.seen(self._database, others) if others else {}
        fresh = [(each, key) for each, key in found if key not in seen]
        return [each for each, _ in fresh], list(joinable.values()), [key for _, key in fresh if key is not None]
