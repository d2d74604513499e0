"""Wires the evaluator together: database, NATS, object storage, the gateway, gRPC, timers and probes."""

import asyncio
import os
import time
from collections.abc import Sequence

from libs.artifacts import ObjectStore
from libs.contracts.errors import PawlError, Transient
from libs.eventing.batches import BatchConsumer, RawMessage
from libs.eventing.connection import NatsLink
from libs.eventing.subscriptions import Consumers
from libs.outbox.database import Database
from libs.outbox.migrate import migrate
from libs.outbox.relay import Relay
from libs.runtime.grpc_server import GrpcServer
from libs.runtime.process import Lifecycle
from libs.telemetry import get_logger
from services.evaluator.clients import Backlog, Gateway
from services.evaluator.clients.engines import Engines
from services.evaluator.clients.harness import Harness
from services.evaluator.clients.lookup import Lookup
from services.evaluator.clients.outside import OutsideModel
from services.evaluator.domain.presence import Presence
from services.evaluator.handlers.asked import AskedFor
from services.evaluator.handlers.evaluation import Evaluation
from services.evaluator.handlers.generation import Generation
from services.evaluator.handlers.judging import admission_by
from services.evaluator.handlers.live import LiveWatch
from services.evaluator.handlers.monitor import INFERENCES, OUTCOMES, Monitor
from services.evaluator.handlers.parity import ParityGate
from services.evaluator.handlers.production import Production
from services.evaluator.handlers.suites import Shelf
from services.evaluator.rpc import SERVICE, EvaluatorServicer, campaigns, live, register
from services.evaluator.settings import EvaluatorSettings, read_prices
from services.evaluator.store import METADATA, Answers, AskedEvaluations, Ledger, Reports
from services.evaluator.store.campaigns import Campaigns
from services.evaluator.store.ledger import CONSUMER
from services.evaluator.store.live import CONSUMER as TASKS
from services.evaluator.store.live import Live
from services.evaluator.store.live_readings import LiveReadings
from services.evaluator.store.traffic import TrafficMix

_BATCH = 1000
_BATCH_SECONDS = 0.25
_DAY = 86_400.0
_HOUR = 3600.0
_MIX_DAYS = 7
_CATCH_UP_SECONDS = 0.5

log = get_logger(__name__)


async def serve(lifecycle: Lifecycle) -> None:
    """Run until told to stop. NATS, storage and gateway may be away: questions are answered, work waits."""
    settings = lifecycle.settings
    assert isinstance(settings, EvaluatorSettings)
    await migrate(settings.database_url, "services.evaluator")
    database = Database(settings.database_url, metadata=METADATA, service="evaluator")
    await database.open()
    lifecycle.on_drain(database.close, "database")

    link = NatsLink(settings.nats_url, "evaluator", **settings.nats_credentials())
    lifecycle.on_drain(link.close, "nats")
    lifecycle.ready("nats", link.check)
    relay = Relay(database, link)
    lifecycle.on_drain(relay.stop, "outbox")
    lifecycle.ready("outbox", relay.check)

    objects = ObjectStore(
        settings.s3_endpoint,
        settings.s3_access_key,
        settings.s3_secret_key.get_secret_value(),
        settings.s3_bucket,
        settings.s3_region,
    )
    gateway = Gateway(settings.gateway_address, settings.api_key, deadline=settings.answer_seconds)
    lifecycle.on_drain(gateway.close, "gateway")
    reports, ledger = Reports(database), Ledger(database)
    answers = Answers(database)
    presence, mix = Presence(), TrafficMix(database)
    generation = Generation(
        answers,
        gateway,
        patience=settings.patience_seconds,
        routing=settings.routing_seconds,
        presence=presence,
    )
    engines = Engines(link)
    lifecycle.on_drain(engines.stop, "engines")
    shelf = Shelf(objects, settings.state_dir / "suites", Harness(settings.harness_python))
    evaluation = Evaluation(
        reports,
        objects,
        generation,
        shelf,
        lambda spec: OutsideModel(spec, os.environ.get),
        await asyncio.to_thread(read_prices, settings.prices),
        lambda tenant, task: mix.shares(tenant, task, time.time() - _MIX_DAYS * _DAY),
        admission_by(Campaigns(database)),
        ParityGate(objects, engines, patience=settings.patience_seconds),
    )
    backlog = Backlog(link)
    monitor = Monitor(ledger, backlog.unhandled, settle=settings.settle_seconds, keep=settings.evidence_days * _DAY)
    await monitor.load()
    kept = Live(database)
    watch = LiveWatch(kept, monitor.caught_up, keep=settings.evidence_days * _DAY)
    await watch.load()
    subscriptions = [evaluation.subscription(), monitor.subscription(), watch.subscription()]
    consumers = Consumers(link, subscriptions, service="evaluator")
    lifecycle.on_drain(consumers.stop, "consumers")
    lifecycle.ready("consumers", consumers.check)
    streams: list[BatchConsumer] = []

    async def take_inferences(batch: Sequence[RawMessage]) -> None:
        presence.note(time.monotonic())
        await watch.take_inferences(batch)
        await monitor.take_inferences(batch)

    for durable, take in ((INFERENCES, take_inferences), (OUTCOMES, monitor.take_outcomes)):
        stream = BatchConsumer(link, durable, _BATCH, _BATCH_SECONDS, take)
        lifecycle.on_drain(stream.stop, durable)
        lifecycle.ready(durable, stream.check)
        streams.append(stream)

    server = GrpcServer(settings.grpc_host, settings.grpc_port, variable=settings.variable("grpc_port"))
    asked = AskedFor(AskedEvaluations(database), reports, evaluation, Lookup(link), objects)
    server.add(register, EvaluatorServicer(reports, ledger, objects, asked), SERVICE)
    votes = Campaigns(database)
    blind = campaigns.CampaignServicer(votes, reports, objects)
    server.add(campaigns.register, blind, campaigns.SERVICE)
    readings = LiveReadings(database)
    seen = live.LiveServicer(kept, readings, ledger, watch.state, reports, objects, votes)
    server.add(live.register, seen, live.SERVICE)
    await server.start()
    lifecycle.on_drain(server.stop, "grpc")

    await link.connect(wait=False)
    await relay.start()
    await engines.start()
    await consumers.start()
    lifecycle.spawn(_read_streams(backlog, streams), "streams")
    lifecycle.spawn(monitor.run(settings.assess_seconds), "monitor")
    lifecycle.spawn(watch.run(settings.assess_seconds), "live")
    lifecycle.spawn(Production(kept, readings).run(settings.production_seconds), "production")
    lifecycle.spawn(asked.run(), "asked")
    lifecycle.spawn(_prune(answers, settings.answers_days * _DAY), "answers")
    await lifecycle.wait_stopped()


async def _prune(answers: Answers, keep: float) -> None:
    """Drop answers that no report has used for `keep` seconds, once an hour."""
    while True:
        try:
            gone = await answers.prune(time.time() - keep)
            if gone:
                log.info("kept answers dropped", answers=gone)
        except Transient as error:
            log.warning("kept answers were not looked through", reason=str(error))
        await asyncio.sleep(_HOUR)


async def _read_streams(backlog: Backlog, streams: Sequence[BatchConsumer]) -> None:
    """Start reading traffic once all tasks and rollouts are known: what belongs to none is passed over for good."""
    while True:
        try:
            if not (await backlog.unhandled(CONSUMER) or await backlog.unhandled(TASKS)):
                break
        except PawlError as error:
            log.info("traffic waits", reason=str(error))
        await asyncio.sleep(_CATCH_UP_SECONDS)
    for stream in streams:
        await stream.start()
