"""Fixtures of the trainer's tests."""

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from libs.artifacts import ObjectStore
from libs.eventing.apply import apply
from libs.eventing.connection import NatsLink
from libs.testing.models import tiny_base
from libs.testing.servers import NatsServer, S3Server
from services.trainer.tests.support import Bench, Trainer, write_dataset


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def bucket() -> str:
    return f"trainer-{uuid.uuid4().hex[:8]}"


@pytest_asyncio.fixture
async def bench(
    nats_server: NatsServer, s3_server: S3Server, bucket: str, base: Path, dataset: Path
) -> AsyncIterator[Bench]:
    link = NatsLink(nats_server.url, "test", on_closed=lambda: None)
    await link.connect(wait=True)
    await apply(link.js)
    objects = ObjectStore(s3_server.endpoint, s3_server.access_key, s3_server.secret_key, bucket, s3_server.region)
    await objects.ensure_bucket()
    yield Bench(link, objects, base, dataset)
    objects.close()
    await link.close()


@pytest.fixture(scope="module")
def trainer(
    tmp_path_factory: pytest.TempPathFactory, nats_server: NatsServer, s3_server: S3Server, bucket: str
) -> Iterator[Trainer]:
    """One trainer for the module; a test that kills it starts it again."""
    process = Trainer(tmp_path_factory.mktemp("trainer"), nats_server, s3_server, bucket)
    yield process
    process.kill()
