"""What becomes of an event: handled once, tried again, held, or buried with its reason."""

import asyncio
import json
from typing import Any

from faststream.exceptions import NackMessage
from faststream.nats import JStream, NatsBroker, PullSub
from nats.js.api import ConsumerConfig
from nats.js.errors import NotFoundError

from libs.contracts.errors import InvalidInput, PermissionDenied, Unauthenticated, Unavailable
from libs.contracts.events import ImportCompleted, SegmentWritten
from libs.eventing.advisories import AdvisoryCollector
from libs.eventing.apply import apply
from libs.eventing.connection import NatsLink
from libs.eventing.deadletters import Letter, list_dead
from libs.eventing.subscriptions import Consumers, Subscription
from libs.eventing.tests.support import TRACE, Recorder, Work, say, segment, table
from libs.telemetry import current_traceparent, trace_id
from libs.testing.servers import NatsServer
from libs.testing.wait import eventually

FACTS = "registry-ingestion"


def facts(link: NatsLink, handler: Recorder, **more: Any) -> Consumers:
    return Consumers(
        link, [Subscription(FACTS, (SegmentWritten, ImportCompleted), handler)], service="registry", **more
    )


async def acked(link: NatsLink, durable: str = FACTS, stream: str = "EVT") -> bool:
    info = await link.js.consumer_info(stream, durable)
    return bool(info.num_pending == 0 and info.num_ack_pending == 0)


async def acked_pending(link: NatsLink) -> bool:
    return bool((await link.js.consumer_info("EVT", FACTS)).num_ack_pending)


async def test_a_handler_gets_the_envelope_as_it_was_sent(link: NatsLink) -> None:
    handler = Recorder()
    consumers = facts(link, handler)
    await consumers.start()
    sent = await say(link, segment(7), traceparent=TRACE, turn_id="turn-é %1", cause_id="cause-1")
    await eventually(lambda: handler.events)
    assert handler.events[0] == sent
    await eventually(lambda: acked(link))
    await consumers.stop()


async def test_a_handler_runs_in_the_trace_of_its_event(link: NatsLink) -> None:
    seen: list[str | None] = []

    async def note() -> None:
        seen.append(current_traceparent())

    consumers = facts(link, Recorder(note))
    await consumers.start()
    await say(link, segment(), traceparent=TRACE)
    await eventually(lambda: seen)
    assert seen[0] is not None
    assert trace_id(seen[0]) == trace_id(TRACE)
    await consumers.stop()


async def test_a_transient_failure_is_tried_again_with_growing_gaps(link: NatsLink) -> None:
    handler = Recorder(Unavailable("not now"), Unauthenticated("not now"), PermissionDenied("not now"), None)
    consumers = facts(link, handler)
    await consumers.start()
    await say(link, segment())
    await eventually(lambda: handler.finished == 1)
    first, second, third = handler.gaps
    assert first >= 0.5
    assert second >= 1.0
    assert third >= 2.0
    assert await list_dead(link.js) == []
    await consumers.stop()


async def test_naks_ignore_the_consumers_backoff(link: NatsLink) -> None:
    # The trap: `backoff` only times unanswered messages; a plain nak comes straight back.
    await link.js.add_consumer(
        "EVT",
        ConsumerConfig(durable_name="trap", filter_subject="evt.>", max_deliver=5, backoff=[60.0, 60.0, 60.0, 60.0]),
    )
    pull = await link.js.pull_subscribe_bind(durable="trap", stream="EVT")
    await say(link, segment())
    for delivery in range(1, 6):
        (message,) = await pull.fetch(1, timeout=10)
        assert message.metadata.num_delivered == delivery
        await message.nak()


async def test_the_default_policy_terminates_on_the_first_error(link: NatsLink, nats_server: NatsServer) -> None:
    # The trap, as FastStream has it by default.
    calls: list[object] = []
    broker = NatsBroker(nats_server.url, logger=None)

    @broker.subscriber(  # type: ignore[untyped-decorator]
        "evt.>", stream=JStream("EVT", declare=False), durable="trap", pull_sub=PullSub(1, timeout=0.5),
        config=ConsumerConfig(ack_wait=0.3),
    )  # fmt: skip
    async def handle(body: object) -> None:
        calls.append(body)
        raise OSError

    await broker.start()
    await say(link, segment())
    await eventually(lambda: calls)
    await eventually(lambda: acked(link, "trap"))
    await asyncio.sleep(0.8)
    assert len(calls) == 1
    await broker.stop()


async def test_a_permanent_failure_is_buried_with_its_reason(link: NatsLink) -> None:
    handler = Recorder(InvalidInput("is negative", field="rows"))
    consumers = facts(link, handler)
    await consumers.start()
    sent = await say(link, segment(), traceparent=TRACE)
    (letter,) = await eventually(lambda: list_dead(link.js))
    assert letter.reason == "INVALID_INPUT: rows: is negative"
    assert (letter.subject, letter.consumer, letter.deliveries) == (sent.subject, FACTS, 1)
    assert letter.headers["traceparent"] == TRACE
    assert json.loads(letter.data)["number"] == 1
    await eventually(lambda: acked(link))
    assert len(handler.events) == 1
    await consumers.stop()


async def test_a_broken_handler_is_buried_when_deliveries_run_out(link: NatsLink) -> None:
    changed = table(FACTS, max_deliver=2)
    await apply(link.js, changed)
    handler = Recorder(ZeroDivisionError("by zero"))
    consumers = facts(link, handler, consumers=changed)
    await consumers.start()
    await say(link, segment())
    (letter,) = await eventually(lambda: list_dead(link.js))
    assert letter.reason.startswith("ZeroDivisionError: by zero at support.py:")
    assert letter.deliveries == 2
    await consumers.stop()


async def test_an_outage_longer_than_all_deliveries_buries_nothing(link: NatsLink) -> None:
    changed = table(FACTS, max_deliver=2, ack_wait=1.0)
    await apply(link.js, changed)
    away = Unavailable("the database is away")
    handler = Recorder(away, away, away, away, None)
    consumers = facts(link, handler, consumers=changed)
    await consumers.start()
    await say(link, segment())
    await eventually(lambda: handler.finished == 1, 20)
    await eventually(lambda: acked(link))
    assert await list_dead(link.js) == []
    await consumers.stop()


async def test_a_fact_held_through_an_outage_survives_the_drain_of_its_holder(link: NatsLink) -> None:
    changed = table(FACTS, max_deliver=1)
    await apply(link.js, changed)
    holder = facts(link, Recorder(Unavailable("away")), consumers=changed)
    await holder.start()
    await say(link, segment(6))
    await eventually(lambda: acked_pending(link))
    await holder.stop()
    other = NatsLink(link.url, "test", on_closed=lambda: None)
    await other.connect()
    handler = Recorder()
    replica = facts(other, handler, consumers=changed)
    await replica.start()
    await eventually(lambda: handler.numbers == [6])
    assert await list_dead(link.js) == []
    await replica.stop()
    await other.close()


async def test_patience_with_an_outage_ends(link: NatsLink) -> None:
    changed = table(FACTS, max_deliver=1)
    await apply(link.js, changed)
    consumers = facts(link, Recorder(Unavailable("never")), consumers=changed, patience=0.1)
    await consumers.start()
    await say(link, segment())
    (letter,) = await eventually(lambda: list_dead(link.js))
    assert letter.reason == "still failing after 1 deliveries: UNAVAILABLE: never"
    await consumers.stop()


async def test_a_service_learns_that_its_command_was_buried(link: NatsLink) -> None:
    told: list[tuple[str, str]] = []

    async def on_dead(letter: Letter, reason: str) -> None:
        told.append((letter.subject, reason))

    handler = Recorder(InvalidInput("no such base", field="base"))
    consumers = Consumers(
        link, [Subscription("trainer-train", Work, handler, long_running=True, on_dead=on_dead)], service="trainer"
    )
    await consumers.start()
    await say(link, Work())
    await eventually(lambda: told)
    assert told == [("cmd.trainer.train.v1", "INVALID_INPUT: base: no such base")]
    await consumers.stop()


async def test_a_message_that_is_no_event_is_buried(link: NatsLink) -> None:
    handler = Recorder()
    consumers = facts(link, handler)
    await consumers.start()
    await link.js.publish("evt.ingestion.segment.written.v1", b"{}", stream="EVT")
    (letter,) = await eventually(lambda: list_dead(link.js))
    assert letter.reason == "INVALID_INPUT: ce-specversion: the CloudEvents header is missing"
    assert handler.events == []
    await consumers.stop()


async def test_a_payload_with_a_wrong_field_is_buried_by_its_name(link: NatsLink) -> None:
    handler = Recorder()
    consumers = facts(link, handler)
    await consumers.start()
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "x", "ce-type": SegmentWritten.event_type()}
    body = segment().model_dump_json().replace('"rows":1', '"rows":"many"').encode()
    await link.js.publish("evt.ingestion.segment.written.v1", body, stream="EVT", headers=headers)
    (letter,) = await eventually(lambda: list_dead(link.js))
    assert letter.reason.startswith("INVALID_INPUT: rows: Input should be a valid integer")
    await consumers.stop()


async def test_an_unknown_fact_passes(link: NatsLink) -> None:
    class Novel(SegmentWritten):
        subject = "evt.ingestion.novel.v1"

    handler = Recorder()
    consumers = facts(link, handler)
    await consumers.start()
    await say(link, Novel(**segment(1).model_dump()))
    await say(link, segment(2))
    await eventually(lambda: handler.numbers == [2])
    await eventually(lambda: acked(link))
    assert await list_dead(link.js) == []
    await consumers.stop()


async def test_one_process_never_holds_more_than_one(link: NatsLink) -> None:
    gate = asyncio.Event()
    handler = Recorder(lambda: _wait(gate))
    consumers = facts(link, handler)
    await consumers.start()
    for number in range(5):
        await say(link, segment(number))
    await eventually(lambda: handler.events)
    await asyncio.sleep(0.3)
    info = await link.js.consumer_info("EVT", FACTS)
    assert (info.num_ack_pending, info.num_pending) == (1, 4)
    gate.set()
    await eventually(lambda: handler.numbers == [0, 1, 2, 3, 4])
    await consumers.stop()


async def test_more_workers_fetch_more_than_they_handle(link: NatsLink, nats_server: NatsServer) -> None:
    # The trap: with `max_workers` messages wait in this process while a free replica could have them.
    gate = asyncio.Event()
    broker = NatsBroker(nats_server.url, logger=None, graceful_timeout=1)

    @broker.subscriber(  # type: ignore[untyped-decorator]
        "evt.>", stream=JStream("EVT", declare=False), durable="trap", pull_sub=PullSub(1, timeout=0.5), max_workers=2
    )
    async def handle(body: object) -> None:
        await gate.wait()

    await broker.start()
    for number in range(8):
        await say(link, segment(number))

    async def held() -> bool:
        return int((await link.js.consumer_info("EVT", "trap")).num_ack_pending) > 2

    await eventually(held)
    gate.set()
    await broker.stop()


async def test_a_message_that_kills_its_holder_each_time_becomes_a_dead_letter(link: NatsLink) -> None:
    changed = table("trainer-train", max_deliver=2, ack_wait=0.2, spare=0)
    await apply(link.js, changed)
    await say(link, Work(number=3), traceparent=TRACE)
    pull = await link.js.pull_subscribe_bind(durable="trainer-train", stream="CMD")
    told: list[int] = []

    async def on_exhausted(letter: Letter, reason: str) -> None:
        told.append(letter.stream_seq)

    collector = AdvisoryCollector(link, on_exhausted=on_exhausted)
    await collector.start()
    for _ in range(2):
        await pull.fetch(1, timeout=2)  # and never answered, as by a process that died
    await asyncio.sleep(0.3)
    # The broker notices when somebody asks for more.
    await say(link, Work(number=4))
    (message,) = await pull.fetch(1, timeout=2)
    assert json.loads(message.data)["number"] == 4
    (letter,) = await eventually(lambda: list_dead(link.js))
    assert letter.reason.startswith("ran out of deliveries after 2")
    assert json.loads(letter.data)["number"] == 3
    assert letter.headers["traceparent"] == TRACE
    await eventually(lambda: told == [1])
    await message.ack()

    async def gone() -> bool:
        return int((await link.js.stream_info("CMD")).state.messages) == 0

    await eventually(gone)
    await collector.stop()


async def test_terminating_on_a_work_queue_deletes_the_message(link: NatsLink) -> None:
    # The trap that makes us copy first: afterwards there is nothing left to copy.
    stored = await link.js.publish("cmd.trainer.train.v1", b"x", stream="CMD")
    pull = await link.js.pull_subscribe_bind(durable="trainer-train", stream="CMD")
    (message,) = await pull.fetch(1, timeout=2)
    await message.term()

    async def gone() -> bool:
        try:
            await link.js.get_msg("CMD", seq=stored.seq)
        except NotFoundError:
            return True
        return False

    await eventually(gone)


async def test_nothing_is_terminated_before_its_copy_is_stored(link: NatsLink) -> None:
    await link.js.delete_stream("DLQ")
    handler = Recorder(InvalidInput("bad"))
    consumers = Consumers(link, [Subscription("trainer-train", Work, handler)], service="trainer")
    await consumers.start()
    await say(link, Work())
    await eventually(lambda: len(handler.events) >= 2)
    assert (await link.js.stream_info("CMD")).state.messages == 1
    await apply(link.js)
    await eventually(lambda: list_dead(link.js))
    await eventually(lambda: acked(link, "trainer-train", "CMD"))
    await consumers.stop()


async def test_a_bare_payload_without_content_type_changes_its_type(link: NatsLink, nats_server: NatsServer) -> None:
    # The trap: FastStream guesses, and `1` arrives as a number.
    seen: list[object] = []
    broker = NatsBroker(nats_server.url, logger=None, apply_types=False)

    @broker.subscriber("plain")  # type: ignore[untyped-decorator]
    async def handle(body: object) -> None:
        seen.append(body)

    await broker.start()
    await broker.connection.flush()  # the broker knows of the subscription now
    await link.client.publish("plain", b"1")
    await link.client.publish("plain", b"1", headers={"content-type": "text/plain"})
    await eventually(lambda: len(seen) == 2)
    assert seen == [1, "1"]
    await broker.stop()


async def test_a_handler_may_itself_ask_for_another_try(link: NatsLink) -> None:
    handler = Recorder(NackMessage(delay=0.05), None)
    consumers = facts(link, handler)
    await consumers.start()
    await say(link, segment())
    await eventually(lambda: handler.finished == 1)
    await consumers.stop()


async def _wait(gate: asyncio.Event) -> None:
    await gate.wait()
