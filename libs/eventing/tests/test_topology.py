"""Streams and consumers belong to the topology job and to operators, never to services."""

from dataclasses import replace

import pytest
from faststream.nats import JStream, NatsBroker, PullSub
from nats.js.api import RetentionPolicy

from libs.contracts.errors import FailedPrecondition, NotFound
from libs.eventing import __main__ as cli
from libs.eventing import topology
from libs.eventing.apply import apply, plan
from libs.eventing.connection import NatsLink
from libs.eventing.subscriptions import Consumers, Subscription
from libs.eventing.tests.support import Recorder, segment, table
from libs.testing.servers import NatsServer
from libs.testing.wait import eventually


async def test_applying_twice_changes_nothing(link: NatsLink) -> None:
    assert await plan(link.js) == []
    assert await apply(link.js) == []


async def test_plan_writes_nothing(link: NatsLink) -> None:
    await link.js.delete_consumer("EVT", "registry-trainer")
    (change,) = await plan(link.js)
    assert str(change) == "create consumer registry-trainer"
    with pytest.raises(Exception, match="consumer not found"):
        await link.js.consumer_info("EVT", "registry-trainer")


async def test_a_changed_ack_wait_reaches_the_durable_that_exists(link: NatsLink) -> None:
    changed = table("registry-trainer", ack_wait=11.0)
    (change,) = await apply(link.js, changed)
    assert str(change) == "update consumer registry-trainer (ack_wait: 8.0 -> 11.0)"
    assert (await link.js.consumer_info("EVT", "registry-trainer")).config.ack_wait == 11.0


async def test_a_changed_ack_wait_never_reaches_a_durable_through_a_subscriber(link: NatsLink) -> None:
    # The trap: a durable made once keeps its ack_wait, whatever the code of its service says later.
    changed = table("registry-ingestion", ack_wait=1.0)
    consumers = Consumers(
        link, [Subscription("registry-ingestion", type(segment()), Recorder())], service="registry", consumers=changed
    )
    await consumers.start()
    assert (await link.js.consumer_info("EVT", "registry-ingestion")).config.ack_wait == 8.0
    await consumers.stop()


async def test_our_subscribers_leave_an_operators_stream_as_it_is(link: NatsLink) -> None:
    found = (await link.js.stream_info("EVT")).config
    await link.js.update_stream(found.evolve(max_age=86_400, duplicate_window=1800, max_bytes=10_000_000))
    consumers = Consumers(link, [Subscription("registry-ingestion", type(segment()), Recorder())], service="registry")
    await consumers.start()
    await eventually(lambda: consumers.check() is None)
    await consumers.stop()
    after = (await link.js.stream_info("EVT")).config
    assert (after.max_age, after.duplicate_window, after.max_bytes) == (86_400, 1800, 10_000_000)


async def test_a_declaring_subscriber_overwrites_an_operators_stream(link: NatsLink, nats_server: NatsServer) -> None:
    # The trap, as FastStream has it by default.
    await link.js.add_stream(name="OPS", subjects=["ops.>"], max_age=86_400, duplicate_window=3600, max_bytes=1_000_000)
    broker = NatsBroker(nats_server.url)

    @broker.subscriber("ops.x", stream=JStream("OPS"), durable="d", pull_sub=PullSub(1))  # type: ignore[untyped-decorator]
    async def handle(body: str) -> None:
        pass

    await broker.start()
    await broker.stop()
    after = (await link.js.stream_info("OPS")).config
    assert (after.max_age, after.max_bytes) != (86_400, 1_000_000)


async def test_apply_keeps_what_the_table_does_not_name(link: NatsLink) -> None:
    found = (await link.js.stream_info("EVT")).config
    await link.js.update_stream(found.evolve(max_bytes=10_000_000, max_age=86_400))
    (change,) = await apply(link.js)
    assert change.fields == {"max_age": (86_400.0, 90 * 86_400.0)}
    assert (await link.js.stream_info("EVT")).config.max_bytes == 10_000_000


async def test_apply_names_the_stream_it_cannot_change(link: NatsLink) -> None:
    await link.js.delete_stream("CMD")
    await link.js.add_stream(name="CMD", subjects=["cmd.>"], retention=RetentionPolicy.LIMITS)
    with pytest.raises(FailedPrecondition, match="stream CMD"):
        await apply(link.js)


async def test_every_durable_reads_subjects_its_stream_stores() -> None:
    for row in topology.CONSUMERS:
        stream = next(stream for stream in topology.STREAMS if stream.name == row.stream)
        for subject in row.subjects:
            sample = subject.replace(">", "MAX_DELIVERIES.x.y" if row.stream == topology.ADVISORY else "a.b")
            assert any(topology.matches(pattern, sample) for pattern in stream.subjects), row.durable


def test_work_queue_consumers_never_overlap() -> None:
    queues = {stream.name for stream in topology.STREAMS if stream.work_queue}
    subjects = [subject for row in topology.CONSUMERS if row.stream in queues for subject in row.subjects]
    assert len(subjects) == len(set(subjects))


def test_a_subject_no_stream_stores_is_refused() -> None:
    assert topology.stream_of("evt.trainer.run.completed.v1") == "EVT"
    assert topology.stream_of("feedback.default.triage") == "FEEDBACK"
    with pytest.raises(NotFound, match=r"nobody\.listens"):
        topology.stream_of("nobody.listens")


def test_patterns_match_as_the_broker_matches() -> None:
    assert topology.matches("evt.>", "evt.a.b")
    assert not topology.matches("evt.>", "evt")
    assert topology.matches("a.*.c", "a.b.c")
    assert not topology.matches("a.*.c", "a.b.c.d")
    assert not topology.matches("a.b", "a")


async def test_a_subscription_to_a_durable_of_another_service_is_refused(link: NatsLink) -> None:
    with pytest.raises(FailedPrecondition, match="belongs to registry"):
        Consumers(link, [Subscription("registry-trainer", type(segment()), Recorder())], service="trainer")


async def test_the_job_applies_and_then_plans_nothing(
    private_nats: NatsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    import asyncio

    async def run(*arguments: str) -> int:
        return await asyncio.to_thread(cli.main, [*arguments, "--nats", private_nats.url])

    assert await run("plan") == 3
    assert "create stream FEEDBACK" in capsys.readouterr().out
    assert await run("apply") == 0
    assert await run("plan") == 0
    assert capsys.readouterr().out.endswith("0 changes\n")


def test_the_job_says_where_it_found_no_broker(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--nats", "nats://127.0.0.1:9", "--wait", "0.3"]) == 2
    assert "127.0.0.1:9 (--nats)" in capsys.readouterr().err


def test_rows_are_frozen() -> None:
    assert replace(topology.CONSUMERS[0], max_deliver=1) != topology.CONSUMERS[0]
