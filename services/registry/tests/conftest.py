"""A registry without its process: the real store, outbox and consumers on a real broker."""

import os
from collections.abc import AsyncIterator

import pytest_asyncio

from libs.eventing.connection import NatsLink
from libs.eventing.subscriptions import Consumers
from libs.outbox.database import Database
from libs.outbox.migrate import migrate
from libs.outbox.relay import Relay
from services.registry.store import METADATA, Store
from services.registry.tests.house import House

# Tests start and stop servers while gRPC runs in the same process; its fork handlers may hang the child before exec.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    await migrate(database_url, "services.registry")
    opened = Database(database_url, metadata=METADATA, service="registry")
    await opened.open()
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def house(database: Database, link: NatsLink) -> AsyncIterator[House]:
    store = Store(database)
    relay = Relay(database, link, poll_seconds=0.1)
    built = House(store, database, link)
    consumers = Consumers(link, built.handlers.subscriptions(), service="registry")
    await relay.start()
    await built.start()
    await consumers.start()
    yield built
    await consumers.stop()
    await built.stop()
    await relay.stop()
