"""Wiring of the gateway: tables, engines, journal, doors."""

import asyncio

from libs.eventing.connection import NatsLink
from libs.runtime.grpc_server import GrpcServer
from libs.runtime.process import Lifecycle
from services.serving.gateway.clients import Engines, StreamDoor, read_servers
from services.serving.gateway.domain import Limits
from services.serving.gateway.http import HttpDoor, HttpServer
from services.serving.gateway.rpc import FeedbackServicer, InferenceServicer, OperationsServicer, register
from services.serving.gateway.settings import GatewaySettings
from services.serving.gateway.store import Journal, LocalTables, Spill, UsageBook
from services.serving.gateway.workflows import Answering

_TIDY_SECONDS = 30.0


async def serve(settings: GatewaySettings, lifecycle: Lifecycle) -> None:
    """Run one gateway until it is told to stop; the broker may be away at any time, the start included."""
    link = NatsLink(settings.nats_url, "gateway", **settings.nats_credentials())
    await link.connect(wait=False)
    lifecycle.on_drain(link.close, "nats")
    outside = await asyncio.to_thread(read_servers, settings.outside)
    tables = LocalTables(link, settings.state_dir / "tables", [each.report() for each in outside])
    await tables.start()
    lifecycle.on_drain(tables.stop, "tables")
    lifecycle.ready("tables", tables.check)

    spill = await asyncio.to_thread(Spill, settings.state_dir / "spill", settings.journal_spill_mib * 1024**2)
    journal = Journal(link, spill, capacity=settings.journal_queue)
    lifecycle.on_drain(journal.flush, "journal")
    lifecycle.spawn(journal.run(), "journal")

    usage = await asyncio.to_thread(UsageBook, settings.state_dir / "usage.json")
    lifecycle.on_drain(usage.write, "usage")

    engines = Engines(outside)
    lifecycle.on_drain(engines.close, "engines")
    lifecycle.spawn(_tidy(engines, tables, usage), "channels")
    answering = Answering(
        tables=tables,
        engines=engines,
        records=journal,
        limits=Limits(messages=settings.max_messages, characters=settings.max_body_bytes),
        admission_wait=settings.admission_wait,
        max_in_flight=settings.max_in_flight,
        shadow_in_flight=settings.shadow_in_flight,
        shadow_below=settings.shadow_below,
        hedge_after=settings.hedge_after,
        ledger=usage.ledger,
    )
    lifecycle.on_drain(answering.stop, "shadows")
    feedback = StreamDoor(link, tables)

    door = HttpDoor(
        tables=tables,
        answers=answering,
        feedback=feedback,
        request_seconds=settings.request_seconds,
        max_body_bytes=settings.max_body_bytes,
    )
    http = HttpServer(
        door.app,
        settings.http_host,
        settings.http_port,
        variable=settings.variable("http_port"),
        drain_seconds=settings.drain_seconds / 2,
    )
    grpc = GrpcServer(settings.grpc_host, settings.grpc_port, variable=settings.variable("grpc_port"))
    register(
        grpc,
        InferenceServicer(tables=tables, answers=answering, request_seconds=settings.request_seconds),
        FeedbackServicer(tables=tables, feedback=feedback),
        OperationsServicer(tables=tables, ledger=usage.ledger),
    )
    await grpc.start()
    await http.start()

    async def close_doors() -> None:
        await asyncio.gather(http.stop(), grpc.stop(settings.drain_seconds / 2))

    lifecycle.on_drain(close_doors, "doors")
    await lifecycle.wait_stopped()


async def _tidy(engines: Engines, tables: LocalTables, usage: UsageBook) -> None:
    while True:
        await asyncio.sleep(_TIDY_SECONDS)
        await engines.keep({each.address for each in tables.engines()})
        await usage.write()
