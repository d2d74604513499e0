"""The other services' side of the conversation: facts published for real, desired state read from the broker."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from libs.contracts.envelope import Event, envelop
from libs.contracts.routes import EngineReport, Route
from libs.contracts.stubs.pawl.registry.v1 import registry_pb2 as pb
from libs.contracts.stubs.pawl.registry.v1.registry_pb2_grpc import RegistryServiceStub
from libs.contracts.subjects import COMMANDS, ENGINES, ROUTES
from libs.eventing.cloudevents import encode
from libs.eventing.connection import NatsLink
from libs.eventing.kv import DesiredState, kv_get, kv_put
from libs.eventing.publish import publish
from libs.outbox.database import Database
from libs.runtime.grpc_client import channel
from libs.runtime.grpc_server import GrpcServer
from libs.testing.wait import eventually
from services.registry.domain.routing import Fleet
from services.registry.domain.state import Task, Turn
from services.registry.handlers import Handlers
from services.registry.rpc import SERVICE, RegistryServicer, register
from services.registry.store import Store
from services.registry.store.reading import get_task
from services.registry.tests.world import BASE, TRACE, engine, spec_of


class House:
    """The registry's parts and everything around them that a test plays itself."""

    def __init__(self, store: Store, database: Database, link: NatsLink) -> None:
        self.store, self.database, self.link = store, database, link
        self.engines = DesiredState(link, ENGINES, EngineReport)
        self.handlers = Handlers(store, lambda: Fleet.of(list(self.engines.values.values()), 20.0))
        self.objects = {BASE}
        self._server = GrpcServer("127.0.0.1", 0)
        self._server.add(register, RegistryServicer(store, self._has), SERVICE)

    async def start(self) -> None:
        await self.engines.start()
        await self._server.start()
        self._channel = channel(self._server.address)
        self.rpc = RegistryServiceStub(self._channel)

    async def stop(self) -> None:
        await self.engines.stop()
        await self._channel.close()
        await self._server.stop(0)

    async def _has(self, digest: str) -> bool:
        return digest in self.objects

    async def apply(self, **changes: Any) -> pb.ApplyTaskResponse:
        spec = spec_of(**changes)
        request = pb.ApplyTaskRequest(spec_json=spec.model_dump_json(), base_digest=BASE, by="ada")
        return await self.rpc.ApplyTask(request)

    async def say(self, fact: Event, *, times: int = 1) -> None:
        envelope = envelop(fact, source="test", traceparent=TRACE)
        for repetition in range(times):
            if repetition:
                # A later redelivery is not caught by the broker's duplicate window: publish as the same event anew.
                await self.link.js.publish(*_again(envelope, repetition))
            else:
                await publish(self.link.js, envelope)

    async def task(self) -> Task:
        async with self.store.reading() as session:
            return await get_task(session, "default", "triage")

    async def until(self, check: Callable[[Turn], object]) -> Turn:
        """The newest turn, once it is as `check` wants it."""

        async def seen() -> Turn | None:
            turn = (await self.task()).turn
            return turn if turn is not None and check(turn) else None

        found: Turn | None = await eventually(seen)
        assert found is not None
        return found

    async def route(self) -> Route | None:
        entry = await kv_get(self.link, ROUTES, "default.triage")
        return Route.model_validate_json(entry.value) if entry.value else None

    async def until_stable(self, number: int) -> Route:
        """The route, once a version has all of it."""
        return await self.until_route(lambda route: any(a.version == number and a.share == 1.0 for a in route.arms))

    async def until_route(self, check: Callable[[Route], object]) -> Route:
        async def seen() -> Route | None:
            route = await self.route()
            return route if route is not None and check(route) else None

        found: Route | None = await eventually(seen)
        assert found is not None
        return found

    async def load(self, *digests: str) -> None:
        """An engine reports digests routable, and the registry looks."""
        await kv_put(self.link, ENGINES, "e1", engine(*digests, at=datetime.now(UTC)))
        await eventually(lambda: set(digests) <= set(self.engines.values["e1"].routable) if self.engines.values else 0)
        await self.handlers.tick()

    async def commands(self, subject: str) -> int:
        info = await self.link.js.stream_info(COMMANDS, subjects_filter=subject)
        return int((info.state.subjects or {}).get(subject, 0))


def _again(envelope: Any, repetition: int) -> tuple[str, bytes, float, str, dict[str, str]]:
    subject, data, headers = encode(envelope)
    return subject, data, 5.0, "EVT", {**headers, "Nats-Msg-Id": f"{envelope.id}/{repetition}"}
