"""Of two attempts at a run only the newer may commit or speak."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import select

from libs.contracts.commands import TrainModel
from libs.contracts.envelope import Envelope, envelop
from libs.contracts.errors import StaleEpoch
from libs.contracts.events import RunCompleted
from libs.contracts.ids import digest_bytes
from libs.contracts.task import TaskSpec
from libs.outbox.database import Database
from libs.outbox.migrate import drift, migrate
from services.trainer.domain.protocol import Progress
from services.trainer.store import METADATA, RunStore

COMMAND = TrainModel(
    tenant="default",
    task="sums",
    turn_id="turn-1",
    spec=TaskSpec(task="sums", base="base"),
    run_id="run-1",
    dataset_digest=digest_bytes(b"data"),
    base_digest=digest_bytes(b"base"),
)
CAUSE: Envelope[TrainModel] = envelop(COMMAND, source="pawl/registry", turn_id="turn-1", task="sums")
STEP = Progress(
    step=7, total_steps=9, loss=1.0, learning_rate=0.1, tokens_per_second=1.0, eta_seconds=1.0, peak_memory_bytes=1
)


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    await migrate(database_url, "services.trainer")
    opened = Database(database_url, metadata=METADATA, service="trainer")
    await opened.open()
    yield opened
    await opened.close()


async def spoken(database: Database) -> list[str]:
    async with database.reading() as session:
        rows = (await session.execute(select(database.outbox).order_by(database.outbox.c.id))).mappings().all()
    return [f"{row['subject'].split('.')[3]} {json.loads(row['payload'])['epoch']}" for row in rows]


def completed(epoch: int) -> RunCompleted:
    return RunCompleted(
        tenant="default", task="sums", run_id="run-1", epoch=epoch, adapter_digest=digest_bytes(b"a"),
        run_manifest_digest=digest_bytes(b"m"), base_digest=COMMAND.base_digest, dataset_digest=COMMAND.dataset_digest,
        steps=9, seconds=1.0, final_loss=0.5, loss_curve=((1, 1.0),), killed_at_step=0,
    )  # fmt: skip


async def test_the_migrated_schema_is_the_one_the_code_uses(database_url: str, tmp_path: Path) -> None:
    await migrate(database_url, "services.trainer")
    Database(database_url, metadata=METADATA, service="trainer")
    assert await drift(database_url, "services.trainer", METADATA) == []


async def test_an_overtaken_attempt_can_commit_neither_checkpoint_nor_fact(database: Database) -> None:
    store = RunStore(database)
    old = await store.begin(CAUSE)
    assert old is not None
    await store.progressed(old, CAUSE, STEP)
    new = await store.begin(CAUSE)
    assert new is not None
    assert (old.epoch, new.epoch, new.killed_at_step) == (1, 2, 7)

    with pytest.raises(StaleEpoch):
        await store.checkpointed(old, CAUSE, 8, digest_bytes(b"c"))
    with pytest.raises(StaleEpoch):
        await store.progressed(old, CAUSE, STEP)
    with pytest.raises(StaleEpoch):
        await store.completed(old, CAUSE, completed(1))
    with pytest.raises(StaleEpoch):
        await store.failed(old, CAUSE, "no")
    with pytest.raises(StaleEpoch):
        await store.beat(old, 1)

    assert await store.checkpoints("run-1") == []
    await store.checkpointed(new, CAUSE, 8, digest_bytes(b"d"))
    await store.completed(new, CAUSE, completed(2))
    assert await store.checkpoints("run-1") == [(8, digest_bytes(b"d"))]
    assert await spoken(database) == ["progressed 1", "checkpointed 2", "completed 2"]


async def test_an_ended_run_takes_no_further_attempt_and_no_further_word(database: Database) -> None:
    store = RunStore(database)
    attempt = await store.begin(CAUSE)
    assert attempt is not None
    await store.completed(attempt, CAUSE, completed(1))
    assert await store.begin(CAUSE) is None
    with pytest.raises(StaleEpoch):
        await store.failed(attempt, CAUSE, "too late")
    run = await store.get("run-1")
    assert run is not None
    assert run.status == "succeeded"
