"""Wires ingestion: one link, one database, one object store, two hot paths, one subscription, one gRPC server."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable

from libs.artifacts import ObjectStore, TenantSecrets
from libs.contracts.errors import NotFound, Transient
from libs.contracts.events import SubjectErased
from libs.contracts.stubs.pawl.ingestion.v1 import ingestion_pb2 as pb
from libs.contracts.stubs.pawl.ingestion.v1.ingestion_pb2_grpc import add_IngestionServiceServicer_to_server
from libs.eventing.batches import BatchConsumer
from libs.eventing.connection import NatsLink
from libs.eventing.subscriptions import Consumers, Subscription
from libs.eventing.topology import consumer as consumer_of
from libs.outbox.database import Database
from libs.outbox.migrate import migrate
from libs.outbox.relay import Relay
from libs.runtime.grpc_server import GrpcServer
from libs.runtime.process import Lifecycle
from libs.telemetry import get_logger
from services.ingestion.clients.buckets import Buckets
from services.ingestion.clients.keys import Keys
from services.ingestion.clients.tasks import Tasks
from services.ingestion.domain.hygiene import Echoes
from services.ingestion.domain.imports import ImportRequest
from services.ingestion.handlers.earlier import Earlier
from services.ingestion.handlers.erasing import Erasing
from services.ingestion.handlers.feedback import FeedbackIntake
from services.ingestion.handlers.inferences import InferenceIntake
from services.ingestion.handlers.memory import RecentInferences
from services.ingestion.handlers.progress import Progress
from services.ingestion.http.app import ImportDoor
from services.ingestion.http.server import HttpServer
from services.ingestion.rpc import SERVICE, IngestionServicer, quarantine
from services.ingestion.settings import Settings
from services.ingestion.store import inferences
from services.ingestion.store.erasing import ERASURES
from services.ingestion.store.imports import BadRow, ImportRecord, owned, quarantine_of
from services.ingestion.store.puts import JournalledStore, PutJournal
from services.ingestion.store.tables import METADATA
from services.ingestion.workflows.imports import Importer
from services.ingestion.workflows.tidying import Tidying

log = get_logger(__name__)

COLLECTOR = (20_000, 20, 50)
"""Thresholds of the garbage collector: a batch is thousands of objects that live and die with it."""
_DAY = 86_400.0
_FORGET_EVERY = 600.0
_BUCKET_RETRY_SECONDS = 1.0
_SHOWN_QUARANTINE = 1000
_SWEEP_SECONDS = 20.0


async def main(lifecycle: Lifecycle, settings: Settings) -> None:
    """Run ingestion until it is told to stop."""
    gc.set_threshold(*COLLECTOR)
    await migrate(settings.database_url, "services.ingestion")
    database = Database(settings.database_url, metadata=METADATA, service="ingestion", bulk=True)
    await database.open()
    lifecycle.on_drain(database.close, "database")
    objects = ObjectStore(
        settings.s3_endpoint, settings.s3_access_key, settings.s3_secret_key, settings.s3_bucket, settings.s3_region
    )
    lifecycle.spawn(_ensure_bucket(objects), "bucket")

    link = NatsLink(
        settings.nats_url,
        "ingestion",
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
    tasks = Tasks(link, settings.state_dir / "tasks.json")
    await tasks.start()
    lifecycle.on_drain(tasks.stop, "tasks")
    lifecycle.ready("tasks", tasks.check)

    journal = PutJournal(settings.state_dir / "puts.log")

    def kept(tenant: str) -> ObjectStore:
        return JournalledStore(objects.for_tenant(tenant), journal, tenant)

    tidying = Tidying(database, kept, journal)
    try:
        async with asyncio.timeout(_SWEEP_SECONDS):
            await tidying.start()
    except (Transient, NotFound, TimeoutError) as error:
        log.warning("orphans stay until the next start", reason=str(error))
    lifecycle.spawn(tidying.run(), "tidying")
    recent, echoes = RecentInferences(), Echoes()
    feedback = FeedbackIntake(
        database, link, kept, tasks, TenantSecrets(kept, settings.pseudonym_secret),
        patience=settings.join_patience, pace=settings.pace, recent=recent, echoes=echoes,
    )  # fmt: skip
    logging = InferenceIntake(
        database, link, kept,
        arrived=feedback.wake.set, pace=settings.pace, recent=recent, echoes=echoes,
    )  # fmt: skip
    await logging.recall()
    intakes = {"ingestion-feedback": feedback.take, "ingestion-inference": logging.take}
    for durable, take in intakes.items():
        consumer = BatchConsumer(link, durable, settings.batch_size, settings.batch_wait, take)
        await consumer.start()
        lifecycle.on_drain(consumer.stop, durable)
        lifecycle.ready(durable, consumer.check)
    earlier = Earlier(database, [Progress(link, consumer_of(each).stream, each) for each in intakes])
    erasing = Erasing(database, kept, recent, feedback.turn, earlier)
    erased = Subscription(ERASURES, SubjectErased, erasing.erase, long_running=True)
    consumers = Consumers(link, [erased], service="ingestion")
    await consumers.start()
    lifecycle.on_drain(consumers.stop, "erasures")
    lifecycle.ready("erasures", consumers.check)
    lifecycle.spawn(feedback.run_releases(), "late feedback")
    lifecycle.spawn(_forget(database, settings.join_days * _DAY), "forget inferences")

    importer = Importer(
        database,
        kept,
        tasks,
        settings.state_dir / "spool",
        segment_rows=settings.segment_rows,
        max_bytes=settings.max_import_bytes,
    )
    importer.sweep()

    buckets = Buckets(
        settings.s3_endpoint, settings.s3_access_key, settings.s3_secret_key, settings.s3_region,
        own=settings.s3_bucket, allowed=[each.strip() for each in settings.import_buckets.split(",") if each.strip()],
    )  # fmt: skip

    async def run_import(header: pb.ImportHeader, chunks: AsyncIterator[bytes]) -> ImportRecord:
        request = ImportRequest(
            settings.tenant, header.task, header.name or header.uri.rpartition("/")[2], header.format,
            dict(header.columns), header.source, header.shape, header.ticket,
        )  # fmt: skip
        return await importer.run(request, buckets.stream(header.uri) if header.uri else chunks)

    if settings.http_port is not None:
        keys = Keys(link, settings.state_dir / "keys.json")
        await keys.start()
        lifecycle.on_drain(keys.stop, "keys")
        door = import_door(database, objects.for_tenant, importer, buckets, keys)
        web = HttpServer(
            door.app, settings.http_host, settings.http_port,
            variable=settings.variable("http_port"), drain_seconds=settings.drain_seconds,
        )  # fmt: skip
        await web.start()
        lifecycle.on_drain(web.stop, "http")

    server = GrpcServer(settings.grpc_host, settings.grpc_port, variable=settings.variable("grpc_port"))
    servicer = IngestionServicer(
        database, tasks, objects.for_tenant(settings.tenant), run_import, importer.progress, tenant=settings.tenant
    )
    server.add(add_IngestionServiceServicer_to_server, servicer, SERVICE)
    await server.start()
    lifecycle.on_drain(server.stop, "grpc")
    await lifecycle.wait_stopped()


def import_door(
    database: Database, objects: Callable[[str], ObjectStore], importer: Importer, buckets: Buckets, keys: Keys
) -> ImportDoor:
    """The HTTP door over an importer."""

    async def find(tenant: str, import_id: str) -> tuple[ImportRecord, list[BadRow]]:
        record = await owned(database, tenant, import_id)
        return record, await quarantine_of(database, import_id, _SHOWN_QUARANTINE)

    def aside(tenant: str, import_id: str) -> AsyncIterator[bytes]:
        return quarantine(database, objects(tenant), import_id)

    return ImportDoor(
        caller=keys.operator, run=importer.run, fetch=buckets.stream, find=find,
        quarantine=aside, progress=importer.progress,
    )  # fmt: skip


async def _ensure_bucket(objects: ObjectStore) -> None:
    while True:
        try:
            await objects.ensure_bucket()
            return
        except Transient as error:
            log.warning("object storage is away", reason=str(error))
            await asyncio.sleep(_BUCKET_RETRY_SECONDS)


async def _forget(database: Database, keep_seconds: float) -> None:
    while True:
        try:
            async with database.unit() as unit:
                gone = await inferences.forget(unit, time.time() - keep_seconds)
            if gone:
                log.info("inferences no longer joinable", rows=gone)
        except Transient as error:
            log.warning("old inferences stay for now", reason=str(error))
        await asyncio.sleep(_FORGET_EVERY)
