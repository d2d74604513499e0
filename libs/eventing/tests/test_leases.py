"""A long job is done by one process at a time, and changes hands in moments when that process must go."""

import asyncio
from typing import Self

from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, PullSub

from libs.eventing.apply import apply
from libs.eventing.connection import NatsLink
from libs.eventing.subscriptions import Consumers, Subscription
from libs.eventing.tests.support import Recorder, Work, say, segment, table
from libs.testing.servers import NatsServer
from libs.testing.wait import eventually

TRAIN = "trainer-train"
SHORT = table(TRAIN, ack_wait=1.0)


class Replica:
    """One trainer process's worth of link and consumers."""

    def __init__(self, url: str, handler: Recorder, *, long_running: bool = True) -> None:
        self.link = NatsLink(url, "trainer", on_closed=lambda: None)
        self.handler = handler
        self._long_running = long_running

    async def __aenter__(self) -> Self:
        await self.link.connect()
        self.consumers = Consumers(
            self.link,
            [Subscription(TRAIN, Work, self.handler, long_running=self._long_running)],
            service="trainer",
            consumers=SHORT,
        )
        await self.consumers.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.consumers.stop()
        await self.link.close()


async def test_a_job_longer_than_its_lease_is_started_once(link: NatsLink, nats_server: NatsServer) -> None:
    await apply(link.js, SHORT)
    handler = Recorder(lambda: asyncio.sleep(3.0))
    async with Replica(nats_server.url, handler), Replica(nats_server.url, handler):
        await say(link, Work(number=1))
        await eventually(lambda: handler.finished == 1)
        assert handler.numbers == [1]


async def test_without_a_beat_a_job_longer_than_its_lease_is_started_twice(
    link: NatsLink, nats_server: NatsServer
) -> None:
    # The trap the lease exists for.
    await apply(link.js, SHORT)
    starts: list[float] = []
    brokers = [NatsBroker(nats_server.url, logger=None, graceful_timeout=0.1) for _ in range(2)]

    async def handle(body: object) -> None:
        starts.append(asyncio.get_running_loop().time())
        await asyncio.sleep(3.0)

    for broker in brokers:
        broker.subscriber(
            "cmd.trainer.train.v1", stream=JStream("CMD", declare=False), durable=TRAIN,
            pull_sub=PullSub(1, timeout=0.5), ack_policy=AckPolicy.NACK_ON_ERROR,
        )(handle)  # fmt: skip
        await broker.start()
    await say(link, Work())
    await eventually(lambda: len(starts) == 2)
    for broker in brokers:
        await broker.stop()


async def test_a_drained_job_goes_to_another_replica_before_its_lease_would_end(
    link: NatsLink, nats_server: NatsServer
) -> None:
    long = table(TRAIN, ack_wait=30.0)
    await apply(link.js, long)
    first, second = Recorder(lambda: asyncio.sleep(60)), Recorder()
    async with Replica(nats_server.url, first) as leaving:
        await say(link, Work(number=5))
        await eventually(lambda: first.events)
        async with Replica(nats_server.url, second):
            await leaving.consumers.stop()
            await eventually(lambda: second.finished == 1, 5)
            assert second.numbers == [5]
            assert first.finished == 0


async def test_a_cancelled_handler_cleans_up_undisturbed_before_its_message_is_handed_over(
    link: NatsLink, nats_server: NatsServer
) -> None:
    await apply(link.js, SHORT)
    story: list[str] = []

    async def train() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.5)  # a child process takes a moment to die
            story.append("cleaned up")

    async def take_over() -> None:
        story.append("taken over")

    first, second = Recorder(train), Recorder(take_over)
    async with Replica(nats_server.url, first) as leaving:
        await say(link, Work())
        await eventually(lambda: first.events)
        async with Replica(nats_server.url, second):
            await leaving.consumers.stop()
            await eventually(lambda: second.finished == 1, 5)
    assert story == ["cleaned up", "taken over"]


async def test_a_short_handler_finishes_before_the_drain_ends(link: NatsLink, nats_server: NatsServer) -> None:
    await apply(link.js, SHORT)
    handler = Recorder(lambda: asyncio.sleep(0.5))
    async with Replica(nats_server.url, handler, long_running=False) as leaving:
        await say(link, Work())
        await eventually(lambda: handler.events)
        await leaving.consumers.stop()
        assert handler.finished == 1
    assert (await link.js.stream_info("CMD")).state.messages == 0


async def test_what_arrives_during_a_drain_goes_to_another_replica(link: NatsLink, nats_server: NatsServer) -> None:
    await apply(link.js, table(TRAIN, ack_wait=30.0))
    first, second = Recorder(), Recorder()
    async with Replica(nats_server.url, first) as leaving:
        await eventually(lambda: leaving.consumers.check() is None)
        stopping = asyncio.create_task(leaving.consumers.stop())
        await asyncio.sleep(0)
        for number in range(5):
            await say(link, Work(number=number))
        await stopping
        async with Replica(nats_server.url, second):
            await eventually(lambda: first.finished + second.finished == 5, 5)
    assert sorted(first.numbers + second.numbers) == [0, 1, 2, 3, 4]


async def test_a_killed_holders_job_is_taken_over_when_its_lease_ends(link: NatsLink, nats_server: NatsServer) -> None:
    await apply(link.js, SHORT)
    pull = await link.js.pull_subscribe_bind(durable=TRAIN, stream="CMD")
    await say(link, Work(number=9))
    await pull.fetch(1, timeout=2)  # and then the holder is gone
    handler = Recorder()
    async with Replica(nats_server.url, handler):
        await eventually(lambda: handler.numbers == [9], 5)


async def test_draining_twice_is_harmless(link: NatsLink) -> None:
    consumers = Consumers(link, [Subscription("registry-ingestion", type(segment()), Recorder())], service="registry")
    await consumers.start()
    await consumers.stop()
    await consumers.stop()
