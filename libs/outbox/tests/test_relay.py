"""What was committed leaves, in order and once, whatever dies in between."""

import asyncio
import json
from collections.abc import Awaitable

import pytest
from sqlalchemy import insert, select, text

from libs.contracts.routes import RunState, RunWish
from libs.eventing.apply import apply
from libs.eventing.connection import NatsLink
from libs.eventing.kv import kv_get
from libs.eventing.permissions import authorization
from libs.outbox.database import Database
from libs.outbox.relay import Relay
from libs.outbox.tests.conftest import BACKENDS, opened
from libs.outbox.tests.test_unit import fact
from libs.testing.servers import NatsServer
from libs.testing.wait import eventually


async def emit(ledger: Database, *numbers: int) -> None:
    async with ledger.unit() as unit:
        for number in numbers:
            unit.emit(fact(number), output="booked", key=str(number))


async def published(link: NatsLink) -> list[int]:
    state = (await link.js.stream_info("EVT")).state
    return [
        json.loads((await link.js.get_msg("EVT", seq=seq)).data or b"")["number"]
        for seq in range(max(state.first_seq, 1), state.last_seq + 1)
    ]


async def unsent(ledger: Database) -> int:
    async with ledger.reading() as session:
        return len((await session.execute(select(ledger.outbox).where(ledger.outbox.c.sent_at.is_(None)))).all())


async def test_a_commit_is_published_at_once(ledger: Database, link: NatsLink) -> None:
    relay = Relay(ledger, link, poll_seconds=60)
    await relay.start()
    await asyncio.sleep(0.1)
    await emit(ledger, 1)
    await eventually(lambda: published(link))
    await eventually(lambda: _none(unsent(ledger)))
    assert relay.check() is None
    await relay.stop()


async def test_rows_leave_in_the_order_they_were_committed(ledger: Database, link: NatsLink) -> None:
    for start in range(0, 100, 10):
        await emit(ledger, *range(start, start + 10))
    relay = Relay(ledger, link, batch=16)
    await relay.start()
    await eventually(lambda: _none(unsent(ledger)))
    assert await published(link) == list(range(100))
    await relay.stop()


async def test_rows_the_process_before_left_behind_leave(database_url: str, link: NatsLink) -> None:
    database = await opened(database_url)
    await emit(database, 1, 2)
    await database.close()
    database = await opened(database_url)
    relay = Relay(database, link, poll_seconds=60)
    await relay.start()
    await eventually(lambda: _none(unsent(database)))
    assert await published(link) == [1, 2]
    await relay.stop()
    await database.close()


async def test_a_row_sent_but_not_marked_is_not_stored_twice(ledger: Database, link: NatsLink) -> None:
    await emit(ledger, 1, 2)
    relay = Relay(ledger, link)
    await relay.relay_once()
    async with ledger.transaction() as session:  # as after a kill -9 between publishing and marking
        await session.execute(text("UPDATE outbox SET sent_at = NULL"))
    await relay.relay_once()
    assert await published(link) == [1, 2]


async def test_the_broker_may_die_at_any_moment(ledger: Database, private_nats: NatsServer) -> None:
    link = NatsLink(private_nats.url, "ledger")
    await link.connect()
    await apply(link.js)
    relay = Relay(ledger, link, batch=20, poll_seconds=0.2)
    await relay.start()
    numbers = list(range(200))

    async def write() -> None:
        for number in numbers:
            await emit(ledger, number)
            await asyncio.sleep(0.005)

    writing = asyncio.create_task(write())
    for _ in range(2):
        await asyncio.sleep(0.3)
        private_nats.kill()
        await eventually(lambda: not link.connected)
        private_nats.start()
    await writing
    await eventually(lambda: _none(unsent(ledger)), 30)
    assert sorted(await published(link)) == numbers
    await eventually(lambda: relay.check() is None)
    await relay.stop()
    await link.close()


async def test_while_the_broker_is_away_the_relay_says_so_and_writes_go_on(
    ledger: Database, private_nats: NatsServer
) -> None:
    private_nats.stop()
    link = NatsLink(private_nats.url, "ledger")
    await link.connect(wait=False)
    relay = Relay(ledger, link)
    await relay.start()
    await emit(ledger, 1)
    await eventually(lambda: relay.check() == "outbox: NATS is away")
    private_nats.start()
    await eventually(lambda: link.connected)
    await apply(link.js)
    await eventually(lambda: _none(unsent(ledger)), 20)
    assert await published(link) == [1]
    await relay.stop()
    await link.close()


async def test_kv_writes_leave_in_order_with_the_events(ledger: Database, link: NatsLink) -> None:
    async with ledger.unit() as unit:
        unit.emit(fact(1), output="before")
        unit.put_kv("runs", "r1", RunState(run_id="r1", wish=RunWish.RUN), generation=1)
        unit.put_kv("runs", "r1", RunState(run_id="r1", wish=RunWish.CANCEL), generation=2)
        unit.emit(fact(2), output="after")
    relay = Relay(ledger, link)
    await relay.relay_once()
    entry = await kv_get(link, "runs", "r1")
    assert entry.generation == 2
    assert b"cancel" in (entry.value or b"")
    assert await published(link) == [1, 2]
    async with ledger.transaction() as session:
        await session.execute(text("UPDATE outbox SET sent_at = NULL"))
    await relay.relay_once()
    assert (await kv_get(link, "runs", "r1")).revision == entry.revision


async def test_an_older_generation_in_the_outbox_never_overwrites(ledger: Database, link: NatsLink) -> None:
    relay = Relay(ledger, link)
    for generation, wish in ((5, RunWish.CANCEL), (3, RunWish.RUN)):
        async with ledger.unit() as unit:
            unit.put_kv("runs", "r1", RunState(run_id="r1", wish=wish), generation=generation)
        await relay.relay_once()
    assert b"cancel" in ((await kv_get(link, "runs", "r1")).value or b"")
    assert await unsent(ledger) == 0


async def test_a_missing_stream_blocks_with_its_name_and_heals(ledger: Database, link: NatsLink) -> None:
    await link.js.delete_stream("EVT")
    relay = Relay(ledger, link)
    await relay.start()
    await emit(ledger, 1)
    await eventually(lambda: "no stream answers for evt.ingestion.segment.written.v1" in (relay.check() or ""))
    await apply(link.js)
    await eventually(lambda: relay.check() is None, 20)
    assert await published(link) == [1]
    await relay.stop()


async def test_a_forbidden_subject_blocks_with_the_brokers_reason(ledger: Database, private_nats: NatsServer) -> None:
    private_nats.stop()
    users = [{"user": name, "password": "x"} for name in ("trainer", "topology")]
    private_nats._extra = authorization({"trainer": users[0]}, users[1])
    private_nats.start()
    job = NatsLink(private_nats.url, "topology", user="topology", password="x")
    await job.connect()
    await apply(job.js)
    link = NatsLink(private_nats.url, "trainer", user="trainer", password="x")
    await link.connect()
    relay = Relay(ledger, link)
    await relay.start()
    await emit(ledger, 1)
    await eventually(lambda: "forbids 'trainer' to publish to 'evt.ingestion" in (relay.check() or ""))
    assert await unsent(ledger) == 1
    await relay.stop()
    await link.close()
    await job.close()


async def test_a_row_that_can_never_leave_is_named_and_does_not_block_the_others(
    ledger: Database, link: NatsLink
) -> None:
    async with ledger.transaction() as session:
        await session.execute(
            insert(ledger.outbox).values(
                kind="event", msg_id="big", subject="evt.x.y", headers="{}", payload=b"x" * 2_000_000, created_at=0.0
            )
        )
    await emit(ledger, 1)
    relay = Relay(ledger, link)
    await relay.relay_once()
    assert await published(link) == [1]
    async with ledger.reading() as session:
        refused = (await session.execute(select(ledger.outbox.c.refused).order_by(ledger.outbox.c.id))).scalars().all()
    assert refused == ["the message exceeds the broker's payload limit", None]


async def test_what_was_committed_before_the_drain_leaves_within_it(ledger: Database, link: NatsLink) -> None:
    relay = Relay(ledger, link, poll_seconds=60)
    await relay.start()
    await asyncio.sleep(0.1)
    await emit(ledger, *range(50))
    await relay.stop()
    assert await unsent(ledger) == 0


async def test_sent_rows_and_old_inbox_entries_are_forgotten(ledger: Database, link: NatsLink) -> None:
    relay = Relay(ledger, link)
    await emit(ledger, 1)
    await relay.relay_once()
    await emit(ledger, 2)
    async with ledger.transaction() as session:
        await session.execute(insert(ledger.inbox).values(consumer="c", event_id="old", handled_at=1.0))
    async with ledger.reading() as session:
        sent_at = (
            (await session.execute(select(ledger.outbox.c.sent_at).order_by(ledger.outbox.c.id))).scalars().first()
        )
    assert sent_at is not None
    await relay.purge(sent_at + 3601)
    async with ledger.reading() as session:
        assert len((await session.execute(select(ledger.outbox))).all()) == 1
        assert (await session.execute(select(ledger.inbox))).all() == []


# SQLite's lock file refuses the second process to begin with.
@pytest.mark.parametrize("ledger_url", [each for each in BACKENDS if each == "postgres"], indirect=True)
async def test_of_two_relays_one_sends(ledger: Database, ledger_url: str, link: NatsLink) -> None:
    second = Database(ledger_url, metadata=ledger.metadata, service="ledger")
    await second.open()
    await emit(ledger, *range(300))
    relays = [Relay(ledger, link, batch=10), Relay(second, link, batch=10)]
    for relay in relays:
        await relay.start()
    await eventually(lambda: _none(unsent(ledger)), 20)
    assert await published(link) == list(range(300))
    for relay in relays:
        await relay.stop()
    await second.close()


async def _none(number: Awaitable[int]) -> bool:
    return await number == 0
