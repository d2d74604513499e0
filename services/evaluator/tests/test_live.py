"""The live view on real streams: what is kept, when windows close, and the drop that is told."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import REGISTRY
from sqlalchemy import func, insert, select, update

from libs.artifacts import ObjectStore
from libs.contracts.errors import FailedPrecondition, Unavailable
from libs.contracts.events import DropDetected, TaskApplied
from libs.contracts.inference import Message, Role, Signal
from libs.contracts.stubs.pawl.evaluator.v1 import live_pb2, live_pb2_grpc
from libs.contracts.task import TaskSpec
from libs.eventing.batches import BatchConsumer, RawMessage
from libs.eventing.connection import NatsLink
from libs.eventing.subscriptions import Consumers
from libs.outbox.database import Database
from libs.outbox.migrate import migrate
from libs.outbox.relay import Relay
from libs.runtime.grpc_client import call, channel
from libs.runtime.grpc_server import GrpcServer
from libs.testing.servers import NatsServer
from libs.testing.wait import eventually
from services.evaluator.clients import Backlog
from services.evaluator.domain.campaign import Design
from services.evaluator.domain.campaign_desk import Cast
from services.evaluator.handlers.live import LiveWatch
from services.evaluator.handlers.monitor import INFERENCES, OUTCOMES, Monitor
from services.evaluator.handlers.production import Production
from services.evaluator.rpc import live as rpc
from services.evaluator.store import METADATA, Ledger, Reports
from services.evaluator.store.campaign_tables import campaign_items
from services.evaluator.store.campaigns import Campaigns
from services.evaluator.store.live import Live
from services.evaluator.store.live_readings import LiveReadings
from services.evaluator.store.live_tables import live_requests, live_windows
from services.evaluator.store.tables import reports
from services.evaluator.tests.support import TASK, TENANT, Facts, Traffic, right, send, spec
from services.evaluator.tests.test_campaign_domain import Table
from services.evaluator.tests.test_report import judged_and_gated

WINDOW = 0.2


def watched(**drop: Any) -> TaskSpec:
    live = {"window_seconds": WINDOW, "delay_seconds": 0.0, "user_seconds": 3600.0, "reference_users": 20}
    whole = spec().model_dump(mode="json")
    on_drop = {"floor": 0.8, "run_length": 50.0, "dwell_seconds": 0.0, **drop}
    return TaskSpec.model_validate(
        {**whole, "rollout": {**whole["rollout"], "live": live}, "triggers": {"on_drop": on_drop}}
    )


@dataclass
class Watch:
    """A running watch; `tick` looks once."""

    database: Database
    live: Live
    watch: LiveWatch
    stub: Any

    async def count(self, table: Any = live_requests) -> int:
        async with self.database.reading() as session:
            return int(await session.scalar(select(func.count()).select_from(table)) or 0)

    async def windows(self, number: int) -> list[Any]:
        async def closed() -> Any:
            await self.watch.tick()
            found = await self.live.windows(TENANT, TASK, 0)
            return found if len(found) >= number else None

        found: list[Any] = await eventually(closed, 30.0, every=0.1)
        return found


class Home:
    """Starts and stops a watch over one database, as a supervisor would."""

    def __init__(self, nats: NatsServer, url: str, objects: ObjectStore) -> None:
        self.nats, self.url, self.objects = nats, url, objects
        self._stack = AsyncExitStack()

    async def start(self) -> Watch:
        stack = self._stack = AsyncExitStack()
        await migrate(self.url, "services.evaluator")
        database = Database(self.url, metadata=METADATA, service="evaluator")
        await database.open()
        stack.push_async_callback(database.close)
        link = NatsLink(self.nats.url, "evaluator", on_closed=lambda: None)
        await link.connect(wait=True)
        stack.push_async_callback(link.close)
        relay = Relay(database, link, poll_seconds=0.1)
        await relay.start()
        stack.push_async_callback(relay.stop)
        ledger, live = Ledger(database), Live(database)
        monitor = Monitor(ledger, Backlog(link).unhandled, settle=0.2, keep=3600.0)
        watch = LiveWatch(live, monitor.caught_up, keep=3600.0)
        await watch.load()
        consumers = Consumers(link, [watch.subscription()], service="evaluator")
        await consumers.start()
        stack.push_async_callback(consumers.stop)

        async def take(batch: list[RawMessage]) -> None:
            await watch.take_inferences(batch)
            await monitor.take_inferences(batch)

        for durable, handle in ((INFERENCES, take), (OUTCOMES, monitor.take_outcomes)):
            stream = BatchConsumer(link, durable, 500, 0.1, handle)
            await stream.start()
            stack.push_async_callback(stream.stop)
        server = GrpcServer("127.0.0.1", 0)
        seen = rpc.LiveServicer(
            live, LiveReadings(database), ledger, watch.state, Reports(database), self.objects, Campaigns(database)
        )  # fmt: skip
        server.add(rpc.register, seen, rpc.SERVICE)
        await server.start()
        stack.push_async_callback(server.stop, 0.1)
        connection = channel(server.address)
        stack.push_async_callback(connection.close)
        return Watch(database, live, watch, live_pb2_grpc.LiveServiceStub(connection))

    async def stop(self) -> None:
        await self._stack.aclose()


@pytest_asyncio.fixture
async def home(
    link: NatsLink, nats_server: NatsServer, database_url: str, object_store: ObjectStore
) -> AsyncIterator[Home]:
    built = Home(nats_server, database_url, object_store)
    yield built
    await built.stop()


async def applied(link: NatsLink, watch: Watch, revision: int = 1, **drop: Any) -> None:
    fact = TaskApplied(
        tenant=TENANT, task=TASK, revision=revision, spec=watched(**drop), base_digest="sha256:" + "b" * 64
    )
    await send(link, fact)

    # As the process does: traffic is read only once the tasks are known.
    def known() -> bool:
        return any(task.spec.triggers == fact.spec.triggers for task in watch.watch._tasks.values())

    await eventually(known, 30.0)


async def answered(link: NatsLink, traffic: Traffic, unit: str, *, good: bool = True, **changes: Any) -> Any:
    asked = (Message(role="user", content="the printer does not work"),)
    fact = traffic.inference(
        Role.STABLE, right(1) if good else "no json", unit=unit, latency_ms=50.0, messages=asked, **changes
    )
    await send(link, fact)
    return fact


async def test_a_user_counts_once_and_blame_in_time_makes_the_window_bad(
    home: Home, link: NatsLink, traffic: Traffic
) -> None:
    watch = await home.start()
    await applied(link, watch)
    past = datetime.now(UTC) - timedelta(seconds=5)
    blamed = await answered(link, traffic, "ann", created_at=past)
    await send(link, traffic.outcome(blamed, None, kind="rating", signal=Signal.BAD))
    await answered(link, traffic, "bob", created_at=past)
    await answered(link, traffic, "cem", good=False, created_at=past)
    await answered(link, traffic, "ann", created_at=past + timedelta(seconds=1))
    await answered(link, traffic, "dan", created_at=past, explicit=True)
    failed: dict[str, Any] = {"error": "UNAVAILABLE", "finish_reason": "", "request_id": "again"}
    await answered(link, traffic, "eve", created_at=past, **failed)
    await answered(link, traffic, "eve", created_at=past, request_id="again")
    await eventually(lambda: _is(watch, 7), 30.0)
    found = await watch.windows(4)
    assert len(found) == 4
    async with watch.database.reading() as session:
        rows = (await session.execute(select(live_windows.c.unit, live_windows.c.good))).all()
    assert {row[0]: row[1] for row in rows} == {"ann": False, "bob": True, "cem": False, "eve": True}


async def _is(watch: Watch, number: int) -> bool:
    return await watch.count() == number


async def test_a_drop_is_told_once_survives_a_restart_and_can_be_computed_again(
    home: Home, link: NatsLink, traffic: Traffic, facts: Facts
) -> None:
    watch = await home.start()
    await applied(link, watch)
    past = datetime.now(UTC) - timedelta(seconds=60)
    for number in range(60):
        moment = past + timedelta(seconds=number / 2)
        await answered(link, traffic, f"u{number}", good=number < 40, created_at=moment)
    # Told of times long past, they must all be there before a window is closed.
    await eventually(lambda: _is(watch, 60), 30.0)
    await watch.windows(60)

    async def told() -> Any:
        return await facts.of(DropDetected)

    (envelope,) = await eventually(told, 30.0)
    drop = envelope.data
    assert (drop.number, drop.version, drop.floor) == (1, traffic.stable, 0.8)
    assert drop.first_window >= 30
    assert drop.satisfaction < 0.3
    await home.stop()
    again = await home.start()
    await again.watch.tick()
    state = again.watch.state(TENANT, TASK)
    assert state is not None
    assert len(await again.live.drops(TASK)) == 1
    checks = (await call(again.stub.VerifyEvidence, live_pb2.VerifyEvidenceRequest(task=TASK))).checks
    assert [(check.what, check.finding) for check in checks] == [("drop #1", "equal")]
    async with again.database.transaction() as session:
        await session.execute(update(live_windows).values(good=True))
    checks = (await call(again.stub.VerifyEvidence, live_pb2.VerifyEvidenceRequest(task=TASK))).checks
    assert checks[0].finding == "different"
    assert any("its records say otherwise" in line for line in checks[0].differences)


async def put_report(watch: Watch, objects: ObjectStore, name: str, document: dict[str, Any]) -> None:
    digest = await objects.for_tenant(TENANT).put_bytes(json.dumps(document).encode(), kind="report")
    row = {
        "report_id": name, "tenant": TENANT, "task": TASK, "version": 1, "suite_digest": "", "state": "completed",
        "verdict": document["verdict"], "report_digest": digest, "reason": "", "started_at": time.time(),
        "turn_id": f"turn-{name}",
    }  # fmt: skip
    async with watch.database.transaction() as session:
        await session.execute(insert(reports), [row])


async def checks_of(watch: Watch) -> Any:
    return (await call(watch.stub.VerifyEvidence, live_pb2.VerifyEvidenceRequest(task=TASK))).checks


async def test_a_verdict_that_does_not_follow_from_its_report_is_found(home: Home, object_store: ObjectStore) -> None:
    watch = await home.start()
    honest = judged_and_gated()
    forged = {**honest, "verdict": "pass"}
    for name, document in (("honest", honest), ("forged", forged), ("old", {"verdict": "pass"})):
        await put_report(watch, object_store, name, document)
    checks = await checks_of(watch)
    assert [(check.what, check.finding) for check in checks] == [
        ("report honest", "equal"), ("report forged", "different"), ("report old", "pruned")
    ]  # fmt: skip
    assert list(checks[1].differences) == ["verdict: published 'pass', its gates give 'inconclusive'"]
    asked = live_pb2.VerifyEvidenceRequest(task=TASK, turn_id="turn-forged")
    checks = (await call(watch.stub.VerifyEvidence, asked)).checks
    assert [(check.turn_id, check.what, check.finding) for check in checks] == [
        ("turn-forged", "report forged", "different")
    ]


async def test_a_judge_that_a_report_admits_without_votes_is_found(home: Home, object_store: ObjectStore) -> None:
    watch = await home.start()
    campaigns = Campaigns(watch.database)
    table = Table(Design(seed=2), count=40)
    opened = replace(table.desk.campaign, campaign_id="campaign-1", tenant=TENANT, task=TASK)
    await campaigns.open(opened, table.plan, {})
    document = judged_and_gated()
    seen = {"campaign": "campaign-1", "head": opened.commitment, "state": "open", "judgements": 0}
    document["judges"]["liked"]["seen"] = seen
    await put_report(watch, object_store, "admitted", document)
    check = next(each for each in await checks_of(watch) if each.kind == "report")
    assert check.finding == "different"
    assert "published as 'admitted', recomputed \"campaign campaign-1 holds no judgements" in check.differences[0]


async def test_votes_and_texts_of_a_campaign_are_checked_against_what_was_committed_to(home: Home) -> None:
    watch = await home.start()
    campaigns = Campaigns(watch.database)
    table = Table(Design(seed=2), count=40)
    opened = replace(table.desk.campaign, campaign_id="campaign-1", tenant=TENANT, task=TASK)
    await campaigns.open(opened, table.plan, {})
    taken = await campaigns.take("campaign-1", "ada")
    await campaigns.cast("campaign-1", Cast("ada", taken.ticket, "left"))

    async def checked() -> Any:
        (check,) = (await call(watch.stub.VerifyEvidence, live_pb2.VerifyEvidenceRequest(task=TASK))).checks
        assert (check.kind, check.what) == ("campaign", "campaign campaign-1")
        return check

    assert ((await checked()).finding, (await checked()).verdict) == ("equal", "open")
    assert "nonce" not in (await checked()).document_json
    await campaigns.close("campaign-1")
    assert ((await checked()).finding, (await checked()).verdict) == ("equal", "inconclusive")
    async with watch.database.transaction() as session:
        await session.execute(update(campaign_items).values(treatment="another answer"))
    told = await checked()
    assert told.finding == "different"
    assert "not those that were committed to" in told.differences[0]


async def test_the_live_view_tells_versions_segments_shadow_and_the_watch(
    home: Home, link: NatsLink, traffic: Traffic
) -> None:
    watch = await home.start()
    await applied(link, watch)
    for number in range(30):
        asked = await answered(link, traffic, f"u{number}", segment="eu" if number % 2 else "us")
        shadow = traffic.inference(
            Role.SHADOW, right(1), pair_id=asked.request_id, unit=asked.unit, segment=asked.segment, latency_ms=100.0
        )
        await send(link, shadow)
        if number % 3 == 0:
            await send(link, traffic.outcome(asked, None, kind="escalation", signal=Signal.BAD))
    await eventually(lambda: _is(watch, 60), 30.0)

    async def heard() -> Any:
        answer = await call(watch.stub.GetLive, live_pb2.GetLiveRequest(task=TASK, seconds=60.0))
        told = json.loads(answer.live_json)
        stable = next(each for each in told["versions"] if each["role"] == "stable")
        return told if stable["segments"]["all"]["feedback"] == 10 else None

    told = await eventually(heard, 30.0)
    stable = next(each for each in told["versions"] if each["role"] == "stable")
    assert stable["version"] == told["stable"] == traffic.stable
    assert set(stable["segments"]) == {"all", "eu", "us"}
    line = stable["segments"]["all"]
    assert (line["users"], line["escalations"]["value"], line["satisfaction"]["value"]) == (30, 1 / 3, 0.0)
    assert line["latency_p50_ms"]["value"] == 50.0
    assert told["shadow"]["same_answer"]["value"] == 1.0
    assert abs(told["shadow"]["latency_ratio"]["value"] - 2.0) < 1e-6
    assert told["drift"]["reference_users"] == 20
    assert told["lateness"]["feedback"] == 10


async def test_rates_and_drift_are_metrics_and_what_moved_is_said_once(
    home: Home, link: NatsLink, traffic: Traffic, caplog: pytest.LogCaptureFixture
) -> None:
    watch = await home.start()
    await applied(link, watch)
    production = Production(watch.live, LiveReadings(watch.database))
    for number in range(60):
        # The first twenty say what is usual; those after them write in another language, and more.
        usual, later = "the printer does not work", "der Drucker geht seit heute morgen nicht mehr, bitte " * 9
        asked = (Message(role="user", content=usual if number < 20 else later),)
        await send(link, traffic.inference(Role.STABLE, right(1), unit=f"u{number}", latency_ms=5.0, messages=asked))
    await eventually(lambda: _is(watch, 60), 30.0)
    for _ in range(2):
        await production.look()

    def shown(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(f"pawl_{name}", {"tenant": TENANT, "task": TASK, **labels})

    assert shown("live_rate", role="stable", rate="errors") == 0.0
    assert shown("live_rate", role="stable", rate="satisfaction") is None, "nobody said anything"
    assert shown("live_drift_moved", trait="language") == shown("live_drift_moved", trait="length") == 1.0
    assert (shown("live_drift_index", trait="language") or 0.0) > 1.0
    moved = sum(
        shown("live_drift_moved", trait=trait) or 0.0 for trait in ("length", "language", "category", "cluster")
    )
    assert sum("inputs have moved" in record.getMessage() for record in caplog.records) == moved


async def test_a_broker_that_is_away_or_bare_only_makes_the_watch_wait(home: Home, link: NatsLink) -> None:
    watch = await home.start()
    await applied(link, watch)
    told: list[Exception] = [Unavailable("away"), FailedPrecondition("apply the topology")]
    asked = asyncio.Event()

    async def caught_up() -> float:
        if told:
            raise told.pop()
        asked.set()
        return 0.0

    patient = LiveWatch(watch.live, caught_up, keep=3600.0)
    await patient.load()
    running = asyncio.create_task(patient.run(0.01))
    await asyncio.wait_for(asked.wait(), 20)
    running.cancel()
    assert told == []
