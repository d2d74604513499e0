"""A running ingestion, part by part, on a real broker and real object storage."""

import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest_asyncio
from pydantic import SecretStr

from libs.artifacts import ObjectStore, TenantSecrets
from libs.contracts.events import TaskApplied
from libs.contracts.inference import Inference, Message, Provenance, Role
from libs.contracts.subjects import TASKS, task_key
from libs.contracts.task import TaskSpec
from libs.eventing.batches import BatchConsumer
from libs.eventing.connection import NatsLink
from libs.eventing.kv import kv_put
from libs.outbox.database import Database
from libs.outbox.migrate import migrate
from libs.outbox.relay import Relay
from libs.testing.servers import NatsServer
from libs.testing.wait import eventually
from services.ingestion.clients.tasks import Tasks
from services.ingestion.compute.segments import segment_of
from services.ingestion.domain.hygiene import Echoes
from services.ingestion.domain.imports import ImportRequest
from services.ingestion.handlers.feedback import FeedbackIntake
from services.ingestion.handlers.inferences import InferenceIntake
from services.ingestion.handlers.memory import RecentInferences
from services.ingestion.store import signals
from services.ingestion.store.segments import Intake, segments_after
from services.ingestion.store.tables import METADATA
from services.ingestion.workflows.imports import Importer

BASE = "sha256:" + "0" * 64


@dataclass
class House:
    """One replica of ingestion; `start` and `stop` may be called in turn, as restarts."""

    link: NatsLink
    objects: ObjectStore
    database_url: str
    home: Path
    patience: float = 30.0

    async def start(self) -> "House":
        await migrate(self.database_url, "services.ingestion")
        self.database = Database(self.database_url, metadata=METADATA, service="ingestion")
        await self.database.open()
        self.relay = Relay(self.database, self.link)
        await self.relay.start()
        self.tasks = Tasks(self.link, self.home / "tasks.json")
        await self.tasks.start()
        shared: dict[str, Any] = {"recent": RecentInferences(), "echoes": Echoes()}
        secrets = TenantSecrets(self.objects.for_tenant, SecretStr("the secret of every tenant in tests"))
        self.feedback = FeedbackIntake(
            self.database, self.link, self.objects.for_tenant, self.tasks, secrets,
            patience=self.patience, pace=0.0, **shared,
        )  # fmt: skip
        self.inferences = InferenceIntake(
            self.database, self.link, self.objects.for_tenant, arrived=self.feedback.wake.set, pace=0.0, **shared
        )
        await self.inferences.recall()
        self.consumers: list[BatchConsumer] = []
        self.importer = Importer(
            self.database, self.objects.for_tenant, self.tasks, self.home / "spool", segment_rows=100, max_bytes=10**7
        )
        return self

    async def consume(self, feedback: Any = None) -> None:
        import asyncio

        for durable, take in (
            ("ingestion-feedback", feedback or self.feedback.take),
            ("ingestion-inference", self.inferences.take),
        ):
            consumer = BatchConsumer(self.link, durable, 1000, 0.2, take)
            await consumer.start()
            self.consumers.append(consumer)
        self.releasing = asyncio.create_task(self.feedback.run_releases())

    async def stop(self) -> None:
        import asyncio

        for consumer in self.consumers:
            await consumer.stop(1)
        if self.consumers:
            self.releasing.cancel()
            await asyncio.gather(self.releasing, return_exceptions=True)
        self.consumers = []
        await self.tasks.stop()
        await self.relay.stop()
        await self.database.close()

    async def apply(self, task: str, tenant: str = "default", **data: Any) -> None:
        spec = TaskSpec.model_validate({"task": task, "base": "base", "data": data})
        value = TaskApplied(tenant=tenant, task=task, revision=1, spec=spec, base_digest=BASE)
        await kv_put(self.link, TASKS, task_key(tenant, task), value)

        async def known() -> bool:
            return bool(await self.tasks.spec(tenant, task, patience=10) == spec)

        await eventually(known)

    async def say(self, task: str, tenant: str = "default", **fields: Any) -> None:
        body = fields.pop("raw", None) or json.dumps(fields).encode()
        await self.link.js.publish(f"feedback.{tenant}.{task}", body)

    async def answer(self, inference: Inference, task: str, tenant: str = "default") -> None:
        await self.link.js.publish(f"inference.{tenant}.{task}", inference.model_dump_json().encode())

    async def rows(self, task: str, tenant: str = "default") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for segment in await segments_after(self.database, tenant, task, 0, 1000):
            data = await self.objects.for_tenant(tenant).get_bytes(segment.digest)
            found += segment_of(pq.read_table(io.BytesIO(data)), segment.number).to_pylist()
        return found

    async def stored(self, stream: str) -> list[tuple[str, dict[str, Any]]]:
        state = (await self.link.js.stream_info(stream)).state
        messages = [
            await self.link.js.get_msg(stream, seq) for seq in range(max(state.first_seq, 1), state.last_seq + 1)
        ]
        return [(str(each.subject), json.loads(each.data or b"{}")) for each in messages]

    async def import_bytes(self, data: bytes, **given: Any) -> Any:
        fields = {
            "tenant": "default",
            "task": "triage",
            "name": "a.jsonl",
            "format": "",
            "columns": {},
            "source": "crm",
        }

        async def chunks() -> AsyncIterator[bytes]:
            for at in range(0, len(data), 1000):
                yield data[at : at + 1000]

        return await self.importer.run(ImportRequest(**{**fields, **given}), chunks())


@pytest_asyncio.fixture
async def house(
    nats_server: NatsServer, link: NatsLink, object_store: ObjectStore, database_url: str, tmp_path: Path
) -> AsyncIterator[House]:
    """Ingestion with the task `triage` applied; it consumes once `consume` is called."""
    opened = await House(link, object_store, database_url, tmp_path / "state").start()
    await opened.apply("triage")
    yield opened
    await opened.stop()


def inference(request_id: str, output: str = "wrong", **fields: Any) -> Inference:
    given = {
        "generation": 3, "version": 2, "role": Role.CANARY, "unit": "u1", "assignment_probability": 0.5,
        "messages": (Message(role="system", content="be brief"), Message(role="user", content="my printer burns")),
        "provenance": Provenance(base_digest=BASE), "created_at": datetime.now(UTC),
    }  # fmt: skip
    return Inference(request_id=request_id, output=output, **{**given, **fields})


async def settled(house: House, kinds: dict[str, int]) -> Intake:
    async def there() -> Intake | None:
        intake = await signals.intake(house.database, "default", "triage")
        return intake if intake.kinds == kinds else None

    found = await eventually(there, 15)
    assert found is not None
    return found


async def all_acknowledged(house: House) -> None:
    async def done() -> bool:
        info = await house.link.js.consumer_info("FEEDBACK", "ingestion-feedback")
        return bool(info.num_pending == 0 and info.num_ack_pending == 0)

    await eventually(done, 15)
