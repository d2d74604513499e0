from typing import Any

from libs.contracts.envelope import Envelope, envelop
from libs.contracts.events import ImportCompleted, SegmentWritten
from libs.eventing.apply import plan
from libs.eventing.batches import BatchConsumer, RawMessage
from libs.eventing.connection import NatsLink
from libs.eventing.publish import publish
from libs.eventing.subscriptions import Consumers, Subscription
from libs.testing.wait import eventually


def segment(n: int) -> SegmentWritten:
    return SegmentWritten(
        tenant="default", task="t", number=n, digest="sha256:" + "0" * 64, rows=1, kinds={"rating": 1}
    )


async def test_an_event_published_reaches_its_handler(link: NatsLink) -> None:
    assert await plan(link.js) == []
    seen: list[Envelope[Any]] = []

    async def handle(e: Envelope[Any]) -> None:
        seen.append(e)

    c = Consumers(
        link, [Subscription("registry-ingestion", (SegmentWritten, ImportCompleted), handle)], service="registry"
    )
    await c.start()
    await publish(
        link.js,
        envelop(segment(1), source="x", turn_id="turn-é 1", traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01"),
    )
    await eventually(lambda: seen)
    assert seen[0].data == segment(1)
    assert seen[0].turn_id == "turn-é 1"
    await eventually(lambda: c.check() is None)
    await c.stop()


async def test_batches(link: NatsLink) -> None:
    got: list[RawMessage] = []

    async def handle(batch: list[RawMessage]) -> None:
        got.extend(batch)

    b = BatchConsumer(link, "ingestion-feedback", 100, 0.5, handle)
    await b.start()
    for i in range(10):
        await link.js.publish("feedback.default.t", b"1", stream="FEEDBACK")
    await eventually(lambda: len(got) == 10)
    await eventually(lambda: b.check() is None)
    await b.stop()
