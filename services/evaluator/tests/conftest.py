"""An evaluator without its process: real store, outbox and consumers on a real broker and real object storage."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio
from pydantic import SecretStr

from libs.artifacts import ObjectStore
from libs.contracts.stubs.pawl.serving.v1 import inference_pb2_grpc
from libs.contracts.task import EndpointSpec
from libs.eventing.batches import BatchConsumer
from libs.eventing.connection import NatsLink
from libs.eventing.subscriptions import Consumers
from libs.outbox.database import Database
from libs.outbox.migrate import migrate
from libs.outbox.relay import Relay
from libs.runtime.grpc_server import GrpcServer
from libs.testing.servers import NatsServer
from services.evaluator.clients import Backlog, Gateway
from services.evaluator.clients.harness import Harness
from services.evaluator.clients.outside import OutsideModel
from services.evaluator.handlers.evaluation import Evaluation
from services.evaluator.handlers.generation import Generation
from services.evaluator.handlers.monitor import INFERENCES, OUTCOMES, Monitor
from services.evaluator.handlers.suites import Shelf
from services.evaluator.store import METADATA, Answers, Ledger, Reports
from services.evaluator.tests.harness import HARNESS_PYTHON
from services.evaluator.tests.support import KEY, TASK, TENANT, Facts, FakeGateway, Traffic, right, wrong


@dataclass
class Evaluator:
    """The running parts."""

    database: Database
    reports: Reports
    answers: Answers
    ledger: Ledger
    monitor: Monitor
    relay: Relay


Start = Callable[[], "AsyncExitStack"]


@pytest_asyncio.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    yield FakeGateway({0: wrong, 1: right})


@pytest_asyncio.fixture
async def gateway_address(gateway: FakeGateway) -> AsyncIterator[str]:
    server = GrpcServer("127.0.0.1", 0)
    server.add(inference_pb2_grpc.add_InferenceServiceServicer_to_server, gateway, "pawl.serving.v1.InferenceService")
    await server.start()
    yield server.address
    await server.stop(0.1)


class House:
    """Starts and stops evaluators over one database, as a supervisor would."""

    def __init__(
        self, nats_url: str, database_url: str, objects: ObjectStore, gateway_address: str, home: Path
    ) -> None:
        self.nats_url = nats_url
        self.database_url = database_url
        self.objects = objects
        self.gateway_address = gateway_address
        self.home = home
        self.keys: dict[str, str] = {}
        self.mix: dict[str, float] = {}
        self._stack: AsyncExitStack | None = None

    def outside(self, spec: EndpointSpec) -> OutsideModel:
        return OutsideModel(spec, self.keys.get)

    async def start(self, *, settle: float = 0.3, patience: float = 20.0, routing: float = 1.0) -> Evaluator:
        stack = self._stack = AsyncExitStack()
        await migrate(self.database_url, "services.evaluator")
        database = Database(self.database_url, metadata=METADATA, service="evaluator")
        await database.open()
        stack.push_async_callback(database.close)
        link = NatsLink(self.nats_url, "evaluator", on_closed=lambda: None)
        await link.connect(wait=True)
        stack.push_async_callback(link.close)
        relay = Relay(database, link, poll_seconds=0.1)
        await relay.start()
        stack.push_async_callback(relay.stop)
        client = Gateway(self.gateway_address, SecretStr(KEY), deadline=20.0)
        stack.push_async_callback(client.close)
        reports, ledger, answers = Reports(database), Ledger(database), Answers(database)
        generation = Generation(answers, client, patience=patience, routing=routing)
        shelf = Shelf(self.objects, self.home / "suites", Harness(HARNESS_PYTHON))

        async def mix(tenant: str, task: str) -> dict[str, float]:
            assert (tenant, task) == (TENANT, TASK)
            return self.mix

        evaluation = self.evaluation = Evaluation(reports, self.objects, generation, shelf, self.outside, mix=mix)
        monitor = Monitor(ledger, Backlog(link).unhandled, settle=settle, keep=3600.0)
        await monitor.load()
        consumers = Consumers(link, [evaluation.subscription(), monitor.subscription()], service="evaluator")
        await consumers.start()
        stack.push_async_callback(consumers.stop)
        for durable, take in ((INFERENCES, monitor.take_inferences), (OUTCOMES, monitor.take_outcomes)):
            stream = BatchConsumer(link, durable, 500, 0.2, take)
            await stream.start()
            stack.push_async_callback(stream.stop)
        return Evaluator(database, reports, answers, ledger, monitor, relay)

    async def stop(self) -> None:
        if self._stack is not None:
            stack, self._stack = self._stack, None
            await stack.aclose()


@pytest_asyncio.fixture
async def house(
    link: NatsLink,
    nats_server: NatsServer,
    database_url: str,
    object_store: ObjectStore,
    gateway_address: str,
    tmp_path: Path,
) -> AsyncIterator[House]:
    built = House(nats_server.url, database_url, object_store, gateway_address, tmp_path)
    yield built
    await built.stop()


@pytest_asyncio.fixture
async def evaluator(house: House) -> AsyncIterator[Evaluator]:
    yield await house.start()


@pytest_asyncio.fixture
async def facts(link: NatsLink) -> AsyncIterator[Facts]:
    yield Facts(link)


@pytest_asyncio.fixture
async def traffic(link: NatsLink) -> AsyncIterator[Traffic]:
    yield Traffic(link)
