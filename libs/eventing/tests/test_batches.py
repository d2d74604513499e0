"""The hot path: batches are handled whole, held through an outage, narrowed down to the row that breaks them."""

import asyncio
from collections.abc import Callable

import pytest

from libs.contracts.errors import InvalidInput, PawlError, PermissionDenied, Unauthenticated, Unavailable
from libs.eventing.apply import apply
from libs.eventing.batches import BatchConsumer, RawMessage
from libs.eventing.connection import NatsLink
from libs.eventing.deadletters import list_dead
from libs.eventing.tests.support import table
from libs.testing.servers import NatsServer
from libs.testing.wait import eventually

DURABLE = "ingestion-feedback"


class Rows:
    """A batch handler that keeps rows and fails where told to."""

    def __init__(self, fail: Callable[[list[int]], Exception | None] = lambda _: None) -> None:
        self.kept: list[int] = []
        self.calls: list[list[int]] = []
        self._fail = fail

    async def __call__(self, batch: list[RawMessage]) -> None:
        numbers = [int(message.data) for message in batch]
        self.calls.append(numbers)
        error = self._fail(numbers)
        if error is not None:
            raise error
        self.kept += numbers


async def send(link: NatsLink, *numbers: int) -> None:
    for number in numbers:
        await link.js.publish("feedback.default.triage", str(number).encode(), stream="FEEDBACK")


async def done(link: NatsLink) -> bool:
    info = await link.js.consumer_info("FEEDBACK", DURABLE)
    return bool(info.num_pending == 0 and info.num_ack_pending == 0)


async def handed_out(link: NatsLink, messages: int) -> bool:
    return bool((await link.js.consumer_info("FEEDBACK", DURABLE)).num_ack_pending == messages)


async def test_rows_arrive_in_order_and_are_acknowledged(link: NatsLink) -> None:
    await send(link, *range(25))
    rows = Rows()
    consumer = BatchConsumer(link, DURABLE, 10, 0.3, rows)
    await consumer.start()
    await eventually(lambda: rows.kept == list(range(25)))
    await eventually(lambda: done(link))
    assert max(len(call) for call in rows.calls) <= 10
    await eventually(lambda: consumer.check() is None)
    await consumer.stop()


async def test_a_row_keeps_its_bytes_place_and_time(link: NatsLink) -> None:
    seen: list[RawMessage] = []

    async def handle(batch: list[RawMessage]) -> None:
        seen.extend(batch)

    consumer = BatchConsumer(link, DURABLE, 10, 0.3, handle)
    await consumer.start()
    await link.js.publish("feedback.acme.triage", b"1", stream="FEEDBACK", headers={"X-Kind": "a"})
    await eventually(lambda: seen)
    row = seen[0]
    assert (row.subject, row.data, row.headers["X-Kind"]) == ("feedback.acme.triage", b"1", "a")
    assert (row.stream, row.consumer, row.stream_seq, row.delivered) == ("FEEDBACK", DURABLE, 1, 1)
    assert row.timestamp_ns > 1_700_000_000 * 10**9
    await consumer.stop()


@pytest.mark.parametrize("kind", [Unavailable, Unauthenticated, PermissionDenied])
async def test_an_outage_holds_the_batch_and_uses_up_no_delivery(link: NatsLink, kind: type[PawlError]) -> None:
    changed = table(DURABLE, ack_wait=0.6)
    await apply(link.js, changed)
    away = True
    rows = Rows(lambda _: kind("object storage is away") if away else None)
    consumer = BatchConsumer(link, DURABLE, 10, 0.3, rows, consumers=changed)
    await consumer.start()
    await send(link, 1, 2, 3)
    await eventually(lambda: "object storage is away" in (consumer.check() or ""))
    await asyncio.sleep(1.5)
    info = await link.js.consumer_info("FEEDBACK", DURABLE)
    assert info.num_redelivered == 0
    away = False
    await eventually(lambda: rows.kept == [1, 2, 3])
    await eventually(lambda: consumer.check() is None)
    assert await list_dead(link.js) == []
    await consumer.stop()


async def test_what_is_fetched_ahead_of_a_held_batch_is_leased_with_it_and_comes_after_it(link: NatsLink) -> None:
    changed = table(DURABLE, ack_wait=0.6)
    await apply(link.js, changed)
    away = True
    rows = Rows(lambda _: Unavailable("object storage is away") if away else None)
    consumer = BatchConsumer(link, DURABLE, 8, 0.3, rows, consumers=changed)
    await send(link, *range(20))
    await consumer.start()
    await eventually(lambda: handed_out(link, 16))
    await asyncio.sleep(1.5)
    info = await link.js.consumer_info("FEEDBACK", DURABLE)
    assert (info.num_ack_pending, info.num_redelivered) == (16, 0)
    away = False
    await eventually(lambda: rows.kept == list(range(20)))
    await eventually(lambda: done(link))
    await consumer.stop()


async def test_what_was_fetched_ahead_goes_back_at_the_drain(link: NatsLink) -> None:
    rows, next_rows = Rows(lambda _: Unavailable("never")), Rows()
    consumer = BatchConsumer(link, DURABLE, 8, 0.3, rows)
    await send(link, *range(20))
    await consumer.start()
    await eventually(lambda: handed_out(link, 16))
    await consumer.stop()
    replica = BatchConsumer(link, DURABLE, 30, 0.3, next_rows)
    await replica.start()
    await eventually(lambda: sorted(next_rows.kept) == list(range(20)), 5)
    await replica.stop()


async def test_one_bad_row_is_buried_and_the_others_are_kept(link: NatsLink) -> None:
    await send(link, *range(8))
    rows = Rows(lambda numbers: InvalidInput("is five", field="number") if 5 in numbers else None)
    consumer = BatchConsumer(link, DURABLE, 8, 0.3, rows)
    await consumer.start()
    await eventually(lambda: sorted(rows.kept) == [0, 1, 2, 3, 4, 6, 7])
    (letter,) = await eventually(lambda: list_dead(link.js))
    assert (letter.reason, letter.data) == ("INVALID_INPUT: number: is five", b"5")
    await eventually(lambda: done(link))
    await consumer.stop()


async def test_a_row_that_breaks_the_handler_is_buried_after_a_few_tries(link: NatsLink) -> None:
    await send(link, 1, 2)
    rows = Rows(lambda numbers: ValueError("two") if 2 in numbers else None)
    consumer = BatchConsumer(link, DURABLE, 8, 0.3, rows, attempts=2)
    await consumer.start()
    (letter,) = await eventually(lambda: list_dead(link.js))
    assert letter.reason.startswith("ValueError: two at test_batches.py:")
    assert rows.kept == [1]
    await consumer.stop()


async def test_a_drained_batch_goes_to_the_next_replica(link: NatsLink) -> None:
    rows, next_rows = Rows(lambda _: Unavailable("never")), Rows()
    consumer = BatchConsumer(link, DURABLE, 10, 0.3, rows)
    await consumer.start()
    await send(link, 1, 2)
    await eventually(lambda: rows.calls)
    await consumer.stop()
    replica = BatchConsumer(link, DURABLE, 10, 0.3, next_rows)
    await replica.start()
    await eventually(lambda: sorted(next_rows.kept) == [1, 2], 5)
    await replica.stop()


async def test_a_batch_in_hand_is_finished_before_the_drain_ends(link: NatsLink) -> None:
    kept: list[bytes] = []
    started = asyncio.Event()

    async def handle(batch: list[RawMessage]) -> None:
        started.set()
        await asyncio.sleep(0.5)
        kept.extend(message.data for message in batch)

    consumer = BatchConsumer(link, DURABLE, 10, 0.3, handle)
    await consumer.start()
    await send(link, 1)
    await asyncio.wait_for(started.wait(), 5)
    await consumer.stop()
    assert kept == [b"1"]
    assert await done(link)


class Leaving(Rows):
    """Leaves a confirmation to be waited for, which comes (or fails) when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def handle(self, batch: list[RawMessage]) -> "asyncio.Task[None]":
        await self(batch)
        return asyncio.create_task(self._confirmation())

    async def _confirmation(self) -> None:
        await asyncio.shield(self.confirmed)


async def test_a_batch_that_waits_for_a_confirmation_holds_up_none_after_it_and_is_acknowledged_after_that(
    link: NatsLink,
) -> None:
    rows = Leaving()
    consumer = BatchConsumer(link, DURABLE, 5, 0.3, rows.handle)
    await send(link, *range(20))
    await consumer.start()
    # One waits for its confirmation, one is handled, one is fetched: more are not held.
    await eventually(lambda: rows.kept == list(range(10)))
    await eventually(lambda: handed_out(link, 15))
    await asyncio.sleep(0.5)
    assert rows.kept == list(range(10))
    assert await handed_out(link, 15)
    rows.confirmed.set_result(None)
    await eventually(lambda: done(link))
    assert rows.kept == list(range(20))
    await consumer.stop()


async def test_the_last_batch_is_acknowledged_as_soon_as_it_is_confirmed(link: NatsLink) -> None:
    rows = Leaving()
    consumer = BatchConsumer(link, DURABLE, 5, 30.0, rows.handle)
    await send(link, 1, 2)
    await consumer.start()
    await eventually(lambda: rows.kept == [1, 2])
    rows.confirmed.set_result(None)
    await eventually(lambda: done(link), 5)
    await consumer.stop(1)


async def test_a_batch_whose_confirmation_failed_is_handled_anew_and_leased_until_then(link: NatsLink) -> None:
    changed = table(DURABLE, ack_wait=0.6)
    await apply(link.js, changed)
    rows = Leaving()
    consumer = BatchConsumer(link, DURABLE, 5, 0.3, rows.handle, consumers=changed)
    await send(link, *range(10))
    await consumer.start()
    await eventually(lambda: rows.kept == list(range(10)))
    await asyncio.sleep(1.5)
    failed, rows.confirmed = rows.confirmed, asyncio.get_running_loop().create_future()
    failed.set_exception(Unavailable("the broker is away"))
    await eventually(lambda: len(rows.calls) > 2)
    assert rows.calls[2] == [0, 1, 2, 3, 4]
    rows.confirmed.set_result(None)
    await eventually(lambda: done(link))
    assert sorted(rows.kept) == sorted([*range(10), *range(10)])
    assert (await link.js.consumer_info("FEEDBACK", DURABLE)).num_redelivered == 0
    assert await list_dead(link.js) == []
    await consumer.stop()


async def test_a_consumer_that_waits_for_a_confirmation_is_no_wedged_loop(link: NatsLink) -> None:
    away = True

    async def confirm() -> None:
        if away:
            raise Unavailable("the stream of outcomes is full")

    async def handle(_: list[RawMessage]) -> "asyncio.Task[None]":
        return asyncio.create_task(confirm())

    consumer = BatchConsumer(link, DURABLE, 5, 0.3, handle)
    consumer.watchdog._look_seconds, consumer.watchdog._stall_seconds = 0.1, 0.5
    await send(link, 1, 2)
    await consumer.start()
    await eventually(lambda: "the stream of outcomes is full" in (consumer.check() or ""))
    seen = set()
    for _ in range(20):
        await asyncio.sleep(0.1)
        seen.add(consumer.check())
    assert seen == {"ingestion-feedback waits: UNAVAILABLE: the stream of outcomes is full"}
    away = False
    await eventually(lambda: done(link), 5)
    await eventually(lambda: consumer.check() is None)
    await consumer.stop(1)


async def test_what_is_left_behind_goes_back_at_the_drain(link: NatsLink) -> None:
    rows, next_rows = Leaving(), Rows()
    consumer = BatchConsumer(link, DURABLE, 5, 0.3, rows.handle)
    await send(link, *range(8))
    await consumer.start()
    await eventually(lambda: rows.kept == list(range(8)))
    await consumer.stop(0.5)
    replica = BatchConsumer(link, DURABLE, 30, 0.3, next_rows)
    await replica.start()
    await eventually(lambda: sorted(next_rows.kept) == list(range(8)), 5)
    await eventually(lambda: done(link))
    await replica.stop()


async def test_rows_keep_coming_after_the_broker_was_killed_and_the_consumer_made_anew(
    private_nats: NatsServer,
) -> None:
    link = NatsLink(private_nats.url, "ingestion")
    await link.connect()
    await apply(link.js)
    rows = Rows()
    consumer = BatchConsumer(link, DURABLE, 10, 0.5, rows)
    await consumer.start()
    await send(link, 1)
    await eventually(lambda: rows.kept == [1])
    private_nats.kill()
    await eventually(lambda: not link.connected)
    private_nats.start()
    await eventually(lambda: link.connected)
    await send(link, 2)
    await eventually(lambda: rows.kept == [1, 2])
    await link.js.delete_consumer("FEEDBACK", DURABLE)
    await eventually(lambda: "does not exist" in (consumer.check() or ""))
    await apply(link.js)
    await send(link, 3)
    await eventually(lambda: rows.kept[-1] == 3)
    await eventually(lambda: consumer.check() is None)
    await consumer.stop()
    await link.close()


async def test_large_rows_come_in_small_batches_and_none_is_delivered_twice(link: NatsLink) -> None:
    large, each = 80, 512 * 1024
    for number in range(large):
        await link.js.publish("feedback.default.triage", f"{number:06d}".encode() + bytes(each), stream="FEEDBACK")
    sizes, seen, deliveries = list[int](), list[int](), set[int]()

    async def take(batch: list[RawMessage]) -> None:
        sizes.append(sum(len(message.data) for message in batch))
        seen.extend(int(message.data[:6]) for message in batch)
        deliveries.update(message.delivered for message in batch)

    consumer = BatchConsumer(link, DURABLE, 5000, 0.3, take)
    await consumer.start()
    await eventually(lambda: done(link), 30)
    assert (seen, deliveries) == (list(range(large)), {1})
    assert max(sizes) <= 32 * 1024**2
    await consumer.stop()


async def test_a_row_that_never_came_to_an_end_is_buried_untried(link: NatsLink) -> None:
    from libs.eventing import batches

    changed = table(DURABLE, ack_wait=0.05)
    await apply(link.js, changed)
    await send(link, 7)
    pull = await link.js.pull_subscribe_bind(durable=DURABLE, stream="FEEDBACK")
    for _ in range(batches.CRASH_LIMIT):
        (message,) = await pull.fetch(1, timeout=2)
        await message.nak()
    rows = Rows()
    consumer = BatchConsumer(link, DURABLE, 10, 0.3, rows)
    await consumer.start()
    (letter,) = await eventually(lambda: list_dead(link.js))
    assert letter.reason == "delivered 21 times without an end"
    assert rows.calls == []
    await consumer.stop()
