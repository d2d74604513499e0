"""Wires curation: one link, one database, one object store, four subscriptions, one gRPC server."""

import asyncio
import shutil

import httpx

from libs.artifacts import ObjectStore, TenantSecrets
from libs.contracts.commands import BuildDataset
from libs.contracts.errors import Transient
from libs.contracts.events import SegmentsRewritten, SegmentWritten, TaskApplied
from libs.contracts.stubs.pawl.curation.v1.curation_pb2_grpc import add_CurationServiceServicer_to_server
from libs.contracts.stubs.pawl.curation.v1.review_pb2_grpc import add_ReviewServiceServicer_to_server
from libs.eventing.connection import NatsLink
from libs.eventing.subscriptions import Consumers, Subscription
from libs.outbox.database import Database
from libs.outbox.migrate import migrate
from libs.outbox.relay import Relay
from libs.runtime.grpc_server import GrpcServer
from libs.runtime.process import Lifecycle
from libs.telemetry import get_logger
from services.curation.clients.endpoint import EndpointChat
from services.curation.clients.library import Library
from services.curation.handlers import BUILD, REWRITTEN, SEGMENTS, TASKS, Curator
from services.curation.handlers.building import Builder
from services.curation.rpc import SERVICES, CurationServicer, ReviewServicer
from services.curation.settings import Settings
from services.curation.store import METADATA
from services.curation.workflows.erasing import Erasing
from services.curation.workflows.looking import Looking
from services.curation.workflows.synthesising import Synthesis

log = get_logger(__name__)

_BUCKET_RETRY_SECONDS = 1.0


async def main(lifecycle: Lifecycle, settings: Settings) -> None:
    """Run curation until it is told to stop."""
    await migrate(settings.database_url, "services.curation")
    database = Database(settings.database_url, metadata=METADATA, service="curation")
    await database.open()
    lifecycle.on_drain(database.close, "database")
    objects = ObjectStore(
        settings.s3_endpoint, settings.s3_access_key, settings.s3_secret_key, settings.s3_bucket, settings.s3_region
    )
    lifecycle.spawn(_ensure_bucket(objects), "bucket")

    link = NatsLink(
        settings.nats_url,
        "curation",
        on_closed=lambda: lifecycle.fail("nats connection closed"),
        **settings.nats_credentials(),
    )
    await link.connect(wait=False)
    lifecycle.on_drain(link.close, "nats")
    lifecycle.ready("nats", link.check)
    relay = Relay(database, link)
    await relay.start()
    lifecycle.on_drain(relay.stop, "relay")
    lifecycle.ready("outbox", relay.check)

    models = httpx.AsyncClient(timeout=settings.model_seconds, trust_env=settings.model_proxy)
    lifecycle.on_drain(models.aclose, "models")
    chat = EndpointChat(models, settings.model_key.get_secret_value())
    secrets = TenantSecrets(objects.for_tenant, settings.pseudonym_secret)
    library = Library(objects.for_tenant, settings.state_dir / "segments", secrets)
    builder = Builder(database, library, chat, settings.state_dir / "builds")
    builder.sweep()
    curator = Curator(database, builder)
    consumers = Consumers(
        link,
        [
            Subscription(SEGMENTS, SegmentWritten, curator.learn_segment),
            Subscription(REWRITTEN, SegmentsRewritten, curator.learn_rewritten),
            Subscription(TASKS, TaskApplied, curator.learn_task),
            Subscription(BUILD, BuildDataset, curator.build, long_running=True, on_dead=curator.refuse_dead),
        ],
        service="curation",
    )
    await consumers.start()
    lifecycle.on_drain(consumers.stop, "consumers")
    lifecycle.ready("consumers", consumers.check)

    server = GrpcServer(settings.grpc_host, settings.grpc_port, variable=settings.variable("grpc_port"))
    errands = settings.state_dir / "errands"
    await asyncio.to_thread(shutil.rmtree, errands, ignore_errors=True)
    looking, erasing = Looking(database, library, errands), Erasing(database, library, errands)
    synthesis = Synthesis(database, library, chat, errands)
    datasets = CurationServicer(
        database, objects.for_tenant, looking=looking, erase=erasing.erase, tenant=settings.tenant
    )
    server.add(add_CurationServiceServicer_to_server, datasets, SERVICES[0])
    review = ReviewServicer(database, write=synthesis.write, tenant=settings.tenant)
    server.add(add_ReviewServiceServicer_to_server, review, SERVICES[1])
    lifecycle.spawn(erasing.resume(), "erasures")
    await server.start()
    lifecycle.on_drain(server.stop, "grpc")
    await lifecycle.wait_stopped()


async def _ensure_bucket(objects: ObjectStore) -> None:
    while True:
        try:
            await objects.ensure_bucket()
            return
        except Transient as error:
            log.warning("object storage is away", reason=str(error))
            await asyncio.sleep(_BUCKET_RETRY_SECONDS)
