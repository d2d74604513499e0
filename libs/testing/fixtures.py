"""The pytest plugin of the project: real brokers, real object storage, fresh databases.

Every test module has a nats-server and, in it, the topology; `private_nats` is a test's own and may be killed.
"""

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from libs.eventing.apply import apply
from libs.eventing.connection import NatsLink
from libs.testing.servers import NatsServer, S3Server

__all__ = ["NatsServer", "S3Server"]


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server of the module's own; `link` empties its streams for each test."""
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def private_nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A nats-server of the test's own, which it may stop, kill and restart."""
    with NatsServer(tmp_path / "private-nats") as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server for the session."""
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def private_s3(tmp_path: Path) -> Iterator[S3Server]:
    """An S3 server of the test's own, which it may stop, kill and restart."""
    with S3Server(tmp_path / "private-s3") as server:
        yield server


@pytest_asyncio.fixture
async def object_store(s3_server: S3Server) -> AsyncIterator[Any]:
    """An object store in a bucket of the test's own."""
    from libs.artifacts.store import ObjectStore

    store = ObjectStore(
        s3_server.endpoint,
        s3_server.access_key,
        s3_server.secret_key,
        f"pawl-{uuid.uuid4().hex[:12]}",
        s3_server.region,
    )
    await store.ensure_bucket()
    yield store


@pytest_asyncio.fixture
async def link(nats_server: NatsServer) -> AsyncIterator[NatsLink]:
    """A connected link on the module's broker, with empty streams and buckets of the topology."""
    opened = NatsLink(nats_server.url, "test", on_closed=_closed)
    await opened.connect(wait=True)
    await reset(opened)
    yield opened
    await opened.close()


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """URL of a SQLite file that does not exist yet."""
    return f"sqlite+aiosqlite:///{tmp_path / 'state.db'}"


async def reset(link: NatsLink) -> None:
    """Delete every stream and bucket, then apply the topology."""
    js = link.client.jetstream(timeout=30)
    for info in await js.streams_info():
        # Emptied first: the broker deletes files in its own time, and may find them again under the same name.
        await js.purge_stream(str(info.config.name))
        await js.delete_stream(str(info.config.name))
    await apply(js)


def _closed() -> None:
    """A test may close its broker's connection; the test process must survive it."""
