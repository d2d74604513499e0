"""What publishing promises: stored and confirmed, once per id, or an error that says why."""

import asyncio
import re
from pathlib import Path

import nats
import pytest
from faststream.nats import NatsBroker
from nats.errors import TimeoutError as NatsTimeoutError

from libs.contracts.envelope import envelop
from libs.contracts.errors import Conflict, FailedPrecondition, InvalidInput, NotFound, PermissionDenied, Unavailable
from libs.contracts.events import SegmentWritten
from libs.contracts.routes import RunState, RunWish
from libs.eventing.apply import apply
from libs.eventing.cloudevents import decode, encode
from libs.eventing.connection import NatsLink
from libs.eventing.deadletters import list_dead, redrive
from libs.eventing.kv import DesiredState, kv_get, kv_put
from libs.eventing.permissions import authorization, permissions
from libs.eventing.publish import publish, publish_atomic, publish_raw
from libs.eventing.subscriptions import Consumers, Subscription
from libs.eventing.tests.support import TRACE, Recorder, say, segment
from libs.eventing.topology import SERVICES, Service
from libs.testing.servers import NatsServer
from libs.testing.wait import eventually

SUBJECT = "evt.ingestion.segment.written.v1"


async def stored(link: NatsLink, stream: str = "EVT") -> int:
    return int((await link.js.stream_info(stream)).state.messages)


async def test_an_event_survives_the_wire_with_every_attribute(link: NatsLink) -> None:
    envelope = envelop(
        segment(), source="pawl/ingestion", id="a b%\u00fc", traceparent=TRACE, turn_id="turn-\u00e9", cause_id='c"1'
    )
    subject, data, headers = encode(envelope)
    assert decode(SegmentWritten, subject, data, headers) == envelope
    shouted = {name.upper(): value for name, value in headers.items()}
    assert decode(SegmentWritten, subject, data, shouted) == envelope
    assert all(re.fullmatch(r"[\x20-\x7e]+", value) for value in headers.values() if value != envelope.id)


async def test_an_event_published_twice_is_stored_once(link: NatsLink) -> None:
    envelope = envelop(segment(), source="test")
    first = await publish(link.js, envelope)
    second = await publish(link.js, envelope)
    assert (first.seq, first.duplicate, second.duplicate) == (second.seq, None, True)
    assert await stored(link) == 1


async def test_the_duplicate_window_survives_the_death_of_the_broker(private_nats: NatsServer) -> None:
    link = NatsLink(private_nats.url, "test")
    await link.connect()
    await apply(link.js)
    envelope = envelop(segment(), source="test")
    await publish(link.js, envelope)
    private_nats.kill()
    await eventually(lambda: not link.connected)
    private_nats.start()
    await eventually(lambda: link.connected)
    assert (await publish(link.js, envelope)).duplicate
    assert await stored(link) == 1
    await link.close()


async def test_publishing_without_a_stream_confirms_nothing(link: NatsLink, nats_server: NatsServer) -> None:
    # The trap: FastStream's publish is core NATS unless told otherwise; where no stream listens the event is gone.
    broker = NatsBroker(nats_server.url, logger=None)
    await broker.start()
    assert await broker.publish("x", "nobody.listens") is None
    await broker.stop()


async def test_ours_refuses_a_subject_that_no_stream_stores(link: NatsLink) -> None:
    with pytest.raises(NotFound, match=r"nobody\.listens"):
        await publish_raw(link.js, "nobody.listens", b"x")


async def test_ours_names_the_stream_that_is_missing(link: NatsLink) -> None:
    await link.js.delete_stream("OUTCOME")
    with pytest.raises(FailedPrecondition, match="apply the topology"):
        await publish_raw(link.js, "outcome.default.triage", b"x")


async def test_a_broker_that_pauses_is_waited_for(private_nats: NatsServer) -> None:
    # FastStream's default gives up after half a second; a disk that syncs slowly takes longer.
    link = NatsLink(private_nats.url, "test")
    await link.connect()
    await apply(link.js)
    broker = NatsBroker(private_nats.url, logger=None)
    await broker.start()
    private_nats.pause()
    ours = asyncio.create_task(publish(link.js, envelop(segment(), source="test"), timeout=30))
    with pytest.raises(NatsTimeoutError):
        await broker.publish("x", SUBJECT, stream="EVT")
    private_nats.resume()
    assert (await ours).stream == "EVT"
    await broker.stop()
    await link.close()


async def test_a_broker_that_never_confirms_is_unavailable(private_nats: NatsServer) -> None:
    link = NatsLink(private_nats.url, "test")
    await link.connect()
    await apply(link.js)
    private_nats.pause()
    with pytest.raises(Unavailable, match="in time"):
        await publish(link.js, envelop(segment(), source="test"), timeout=0.3)
    private_nats.resume()
    await link.close()


async def test_an_event_too_large_is_refused_before_it_is_sent() -> None:
    large = segment().model_copy(update={"sources": {"x" * 1_000_000: 1}})
    with pytest.raises(InvalidInput, match="exceed"):
        encode(envelop(large, source="test"))


async def test_compare_and_set_on_a_subject_refuses_the_loser(link: NatsLink) -> None:
    header = "Nats-Expected-Last-Subject-Sequence"
    first = await publish_raw(link.js, "$KV.runs.r1", b"1", {header: "0"}, stream="KV_runs")
    with pytest.raises(Conflict):
        await publish_raw(link.js, "$KV.runs.r1", b"2", {header: "0"}, stream="KV_runs")
    await publish_raw(link.js, "$KV.runs.r1", b"2", {header: str(first.seq)}, stream="KV_runs")


async def test_a_redriven_letter_returns_with_its_trace_and_is_handled(link: NatsLink) -> None:
    handler = Recorder(InvalidInput("not yet"), None)
    consumers = Consumers(link, [Subscription("registry-ingestion", SegmentWritten, handler)], service="registry")
    await consumers.start()
    sent = await say(link, segment(4), traceparent=TRACE, turn_id="turn-1")
    (letter,) = await eventually(lambda: list_dead(link.js))
    await redrive(link.js, letter.seq)
    await eventually(lambda: handler.finished == 1)
    assert handler.events[1] == sent
    assert await list_dead(link.js) == []
    with pytest.raises(NotFound):
        await redrive(link.js, letter.seq)
    await consumers.stop()


async def test_a_letter_redriven_and_buried_again_is_a_letter_again(link: NatsLink) -> None:
    handler = Recorder(InvalidInput("never"))
    consumers = Consumers(link, [Subscription("registry-ingestion", SegmentWritten, handler)], service="registry")
    await consumers.start()
    await say(link, segment())
    (letter,) = await eventually(lambda: list_dead(link.js))
    await redrive(link.js, letter.seq)
    (again,) = await eventually(lambda: list_dead(link.js))
    assert (again.reason, again.subject) == (letter.reason, letter.subject)
    await consumers.stop()


@pytest.fixture
def guarded_nats(private_nats: NatsServer) -> NatsServer:
    """A broker that enforces the generated permissions."""
    users: dict[Service, dict[str, str]] = {name: {"user": name, "password": "secret"} for name in SERVICES}
    private_nats.stop()
    private_nats._extra = authorization(users, {"user": "topology", "password": "secret"})
    private_nats.start()
    return private_nats


async def connect_as(server: NatsServer, name: str) -> NatsLink:
    link = NatsLink(server.url, name, user=name, password="secret")
    await link.connect()
    return link


async def test_only_the_registry_may_send_commands(guarded_nats: NatsServer) -> None:
    job = await connect_as(guarded_nats, "topology")
    await apply(job.js)
    trainer, registry = await connect_as(guarded_nats, "trainer"), await connect_as(guarded_nats, "registry")
    with pytest.raises(PermissionDenied, match=r'permissions violation for publish to "cmd\.trainer\.train\.v1"'):
        await publish_raw(trainer.js, "cmd.trainer.train.v1", b"x", timeout=1)
    await publish_raw(registry.js, "cmd.trainer.train.v1", b"x")
    for link in (job, trainer, registry):
        await link.close()


async def test_under_its_permissions_a_service_consumes_publishes_and_buries(guarded_nats: NatsServer) -> None:
    job = await connect_as(guarded_nats, "topology")
    await apply(job.js)
    ingestion, registry = await connect_as(guarded_nats, "ingestion"), await connect_as(guarded_nats, "registry")
    handler = Recorder(None, InvalidInput("bad"))
    consumers = Consumers(registry, [Subscription("registry-ingestion", SegmentWritten, handler)], service="registry")
    await consumers.start()
    await publish(ingestion.js, envelop(segment(1), source="test"))
    await publish(ingestion.js, envelop(segment(2), source="test"))
    (letter,) = await eventually(lambda: list_dead(registry.js))
    await redrive(registry.js, letter.seq)
    await eventually(lambda: len(handler.events) == 3)
    await eventually(lambda: consumers.check() is None)
    await consumers.stop()
    for link in (job, ingestion, registry):
        await link.close()


async def test_under_its_permissions_a_gateway_follows_a_bucket_that_an_engine_writes(
    guarded_nats: NatsServer, tmp_path: Path
) -> None:
    job = await connect_as(guarded_nats, "topology")
    await apply(job.js)
    gateway, engine = await connect_as(guarded_nats, "gateway"), await connect_as(guarded_nats, "engine")
    state = DesiredState(gateway, "engines", RunState, tmp_path / "engines.json", drift_seconds=0.2)
    await state.start()
    await kv_put(engine, "engines", "e1", RunState(run_id="e1", wish=RunWish.RUN), expected_revision=0)
    await eventually(lambda: "e1" in state.values)
    assert (await kv_get(gateway, "engines", "e1")).revision == 1
    await asyncio.sleep(0.5)  # the look for drift is allowed too
    assert state.check() is None
    with pytest.raises(PermissionDenied):
        await kv_put(gateway, "engines", "e1", None, timeout=1)
    await state.stop()
    for link in (job, gateway, engine):
        await link.close()


async def test_a_plain_client_may_publish_feedback_and_nothing_else(guarded_nats: NatsServer) -> None:
    job = await connect_as(guarded_nats, "topology")
    await apply(job.js)
    plain = await nats.connect(guarded_nats.url)
    acknowledged = await plain.jetstream().publish("feedback.default.t", b"{}")
    assert acknowledged.stream == "FEEDBACK"
    with pytest.raises(NatsTimeoutError):
        await plain.jetstream().publish("evt.registry.task.applied.v1", b"{}", timeout=0.5)
    with pytest.raises(NatsTimeoutError):
        await plain.jetstream().stream_info("FEEDBACK")
    assert await stored(job) == 0
    await plain.close()
    await job.close()


def test_nobody_may_read_anothers_inbox_or_touch_streams() -> None:
    for service in SERVICES:
        rules = permissions(service)
        assert rules["subscribe"]["allow"] == ["_INBOX.>" if service == "upstream" else f"_INBOX_{service}.>"]
        assert not [s for s in rules["publish"]["allow"] if "STREAM.CREATE" in s or "STREAM.UPDATE" in s or s == ">"]


async def test_a_batch_is_stored_whole_with_one_confirmation_or_not_at_all(link: NatsLink) -> None:
    def messages(*names: str) -> list[tuple[str, bytes, dict[str, str]]]:
        return [("outcome.default.t", name.encode(), {"Nats-Msg-Id": name}) for name in names]

    assert await publish_atomic(link.js, "OUTCOME", messages("a", "b", "c"), {"ce-type": "outcome"})
    assert await publish_atomic(link.js, "OUTCOME", messages("d"))
    assert not await publish_atomic(link.js, "OUTCOME", messages("e", "b", "f"))
    assert (await link.js.stream_info("OUTCOME")).state.messages == 4
    second = await link.js.get_msg("OUTCOME", 2)
    assert (second.data, (second.headers or {})["ce-type"]) == (b"b", "outcome")
