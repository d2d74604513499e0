"""Wires the registry together: database, NATS, object storage, gRPC, timers and probes."""

import asyncio
from contextlib import suppress

from libs.artifacts import ObjectStore
from libs.contracts.errors import Transient
from libs.contracts.routes import EngineReport
from libs.contracts.subjects import ENGINES
from libs.eventing.advisories import AdvisoryCollector
from libs.eventing.connection import NatsLink
from libs.eventing.kv import DesiredState
from libs.eventing.subscriptions import Consumers
from libs.outbox.database import Database
from libs.outbox.migrate import migrate
from libs.outbox.relay import Relay
from libs.runtime.grpc_server import GrpcServer
from libs.runtime.process import Lifecycle
from libs.telemetry import get_logger
from services.registry.domain.routing import Fleet
from services.registry.handlers import Handlers
from services.registry.rpc import SERVICE, RegistryServicer, register
from services.registry.settings import RegistrySettings
from services.registry.store import METADATA, Store
from services.registry.workflows import Keeper, read_keys

log = get_logger(__name__)


async def serve(lifecycle: Lifecycle) -> None:
    """Run until told to stop. NATS and object storage may be away: questions are still answered, facts wait."""
    settings = lifecycle.settings
    assert isinstance(settings, RegistrySettings)
    if settings.keys is not None:
        read_keys(settings.keys)  # a wrong file is a wrong setting: said at once, not in a log later

    await migrate(settings.database_url, "services.registry")
    database = Database(settings.database_url, metadata=METADATA, service="registry", short=True)
    await database.open()
    lifecycle.on_drain(database.close, "database")

    link = NatsLink(settings.nats_url, "registry", **settings.nats_credentials())
    lifecycle.on_drain(link.close, "nats")
    lifecycle.ready("nats", link.check)
    relay = Relay(database, link)
    lifecycle.on_drain(relay.stop, "outbox")
    lifecycle.ready("outbox", relay.check)

    objects = ObjectStore(
        settings.s3_endpoint,
        settings.s3_access_key,
        settings.s3_secret_key,
        settings.s3_bucket,
        settings.s3_region,
    )
    look = asyncio.Event()
    engines = DesiredState(link, ENGINES, EngineReport, on_change=lambda *_: look.set())
    lifecycle.on_drain(engines.stop, "engines")
    store = Store(database)

    def fleet() -> Fleet:
        return Fleet.of(list(engines.values.values()), settings.engine_patience_seconds)

    handlers = Handlers(store, fleet)
    consumers = Consumers(link, handlers.subscriptions(), service="registry")
    lifecycle.on_drain(consumers.stop, "consumers")
    lifecycle.ready("consumers", consumers.check)
    advisories = AdvisoryCollector(link, on_exhausted=handlers.exhausted)
    lifecycle.on_drain(advisories.stop, "advisories")
    lifecycle.ready("advisories", advisories.check)
    keeper = Keeper(store, link, settings.keys, settings.rules)
    lifecycle.ready("buckets", keeper.check)

    server = GrpcServer(settings.grpc_host, settings.grpc_port, variable=settings.variable("grpc_port"))
    server.add(register, RegistryServicer(store, objects.exists, fleet), SERVICE)
    await server.start()
    lifecycle.on_drain(server.stop, "grpc")

    await link.connect(wait=False)
    await relay.start()
    await engines.start()
    await consumers.start()
    await advisories.start()
    lifecycle.spawn(keeper.run(settings.tick_seconds), "keeper")
    lifecycle.spawn(_tick(handlers, look, settings.tick_seconds), "ticks")
    await lifecycle.wait_stopped()


async def _tick(handlers: Handlers, look: asyncio.Event, every: float) -> None:
    """Look at the tasks each `every` seconds, and at once when an engine says something new."""
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(look.wait(), every)
        look.clear()
        try:
            await handlers.tick()
        except Transient as error:
            log.warning("tasks not looked at", reason=str(error))
