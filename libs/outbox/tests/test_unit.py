"""State, inbox and outbox are written together or not at all."""

import asyncio
import json
import sqlite3
from typing import Any

import aiosqlite
import pytest
from sqlalchemy import insert, select, update

from libs.contracts.envelope import Envelope, envelop
from libs.contracts.errors import (
    Conflict,
    FailedPrecondition,
    InvalidInput,
)
from libs.contracts.events import SegmentWritten
from libs.contracts.ids import derived_id
from libs.contracts.routes import RunState, RunWish
from libs.outbox.database import Database
from libs.outbox.tests.conftest import count, opened, rows
from libs.outbox.tests.ledger.store import ENTRIES
from libs.telemetry import span, trace_id

TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


def fact(number: int = 1) -> SegmentWritten:
    return SegmentWritten(tenant="acme", task="triage", number=number, digest="sha256:" + "0" * 64, rows=1, kinds={})


def cause(**more: Any) -> Envelope[SegmentWritten]:
    return envelop(fact(), source="test", **more)


async def test_state_and_effects_are_committed_together(ledger: Database) -> None:
    async with ledger.unit(cause(), "ledger-facts") as unit:
        await unit.session.execute(insert(ENTRIES).values(name="a", amount=1))
        unit.emit(fact(), output="booked")
    assert (await count(ledger, ENTRIES), await count(ledger, ledger.outbox), await count(ledger, ledger.inbox)) == (
        1, 1, 1,
    )  # fmt: skip


async def test_a_unit_that_fails_leaves_nothing(ledger: Database) -> None:
    async def fail() -> None:
        async with ledger.unit(cause(), "ledger-facts") as unit:
            await unit.session.execute(insert(ENTRIES).values(name="a", amount=1))
            unit.emit(fact(), output="booked")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert (await count(ledger, ENTRIES), await count(ledger, ledger.outbox), await count(ledger, ledger.inbox)) == (
        0, 0, 0,
    )  # fmt: skip


async def test_an_event_handled_before_is_known_again(ledger: Database) -> None:
    event = cause()
    async with ledger.unit(event, "ledger-facts") as unit:
        assert not unit.already_handled
    async with ledger.unit(event, "ledger-facts") as unit:
        assert unit.already_handled
    async with ledger.unit(event, "another-consumer") as unit:
        assert not unit.already_handled


async def test_two_holders_of_one_event_take_effect_once(ledger: Database) -> None:
    event = cause()

    async def handle() -> bool:
        async with ledger.unit(event, "ledger-facts") as unit:
            if unit.already_handled:
                return False
            await asyncio.sleep(0.05)
            unit.emit(fact(), output="booked")
            return True

    assert sorted(await asyncio.gather(handle(), handle())) == [False, True]
    assert await count(ledger, ledger.outbox) == 1


async def test_effects_of_an_event_handled_before_are_refused(ledger: Database) -> None:
    event = cause()
    for _ in range(1):
        async with ledger.unit(event, "ledger-facts"):
            pass
    with pytest.raises(FailedPrecondition, match="already_handled"):
        async with ledger.unit(event, "ledger-facts") as unit:
            unit.emit(fact(), output="booked")


async def test_the_id_of_an_effect_comes_from_its_cause_and_name(ledger: Database) -> None:
    event = cause()
    async with ledger.unit(event) as unit:
        first = unit.emit(fact(), output="booked")
        other = unit.emit(fact(), output="booked", key="again")
    assert first == derived_id(event.id, "ledger/booked") != other
    async with ledger.unit(event) as unit:
        assert unit.emit(fact(), output="booked") == first
    assert await count(ledger, ledger.outbox) == 2


async def test_without_a_cause_a_key_makes_the_id_and_its_absence_a_fresh_one(ledger: Database) -> None:
    async with ledger.unit() as unit:
        keyed, fresh = unit.emit(fact(), output="tick", key="monday"), unit.emit(fact(), output="tick")
    async with ledger.unit() as unit:
        assert unit.emit(fact(), output="tick", key="monday") == keyed
        assert unit.emit(fact(), output="tick") != fresh


async def test_two_effects_of_one_name_in_one_unit_are_refused(ledger: Database) -> None:
    async with ledger.unit(cause()) as unit:
        unit.emit(fact(1), output="booked")
        with pytest.raises(InvalidInput, match="give them a key"):
            unit.emit(fact(2), output="booked")


async def test_trace_and_turn_go_on_from_the_cause(ledger: Database) -> None:
    event = cause(traceparent=TRACE, turn_id="turn-1")
    async with ledger.unit(event) as unit:
        unit.emit(fact(), output="booked")
    (row,) = await rows(ledger)
    headers = json.loads(row.headers)
    assert (headers["traceparent"], headers["ce-turnid"], headers["ce-causeid"]) == (TRACE, "turn-1", event.id)
    assert headers["ce-source"] == "pawl/ledger"


async def test_without_a_cause_the_trace_goes_on_from_the_span_around(ledger: Database) -> None:
    with span("tick", parent=TRACE):
        async with ledger.unit() as unit:
            unit.emit(fact(), output="booked")
    (row,) = await rows(ledger)
    assert trace_id(json.loads(row.headers)["traceparent"]) == trace_id(TRACE)


async def test_an_event_too_large_to_send_is_refused_before_the_commit(ledger: Database) -> None:
    with pytest.raises(InvalidInput, match="exceed"):
        async with ledger.unit() as unit:
            unit.emit(fact().model_copy(update={"sources": {"x" * 1_000_000: 1}}), output="booked")
    assert await count(ledger, ledger.outbox) == 0


async def test_a_kv_write_is_a_row_like_any_other(ledger: Database) -> None:
    async with ledger.unit() as unit:
        unit.put_kv("runs", "r1", RunState(run_id="r1", wish=RunWish.RUN), generation=4)
        unit.delete_kv("runs", "r1", generation=5)
        with pytest.raises(InvalidInput, match="cannot be a KV key"):
            unit.put_kv("runs", "no good", RunState(run_id="r1", wish=RunWish.RUN), generation=1)
    assert [(row.kind, row.generation, row.payload is None) for row in await rows(ledger)] == [
        ("kv", 4, False),
        ("kv", 5, True),
    ]


async def test_many_writers_at_once_all_succeed(ledger: Database) -> None:
    async def write(number: int) -> None:
        async with ledger.unit() as unit:
            await unit.session.execute(select(ENTRIES))
            await unit.session.execute(insert(ENTRIES).values(name=f"n{number}", amount=number))

    await asyncio.gather(*(write(number) for number in range(30)))
    assert await count(ledger, ENTRIES) == 30


async def test_of_two_writers_that_read_before_they_write_none_is_lost(ledger: Database) -> None:
    async with ledger.transaction() as session:
        await session.execute(insert(ENTRIES).values(name="sum", amount=0))

    async def add_one() -> None:
        async with ledger.transaction() as session:
            held = await session.scalar(select(ENTRIES.c.amount).where(ENTRIES.c.name == "sum"))
            await asyncio.sleep(0.01)
            await session.execute(update(ENTRIES).where(ENTRIES.c.name == "sum").values(amount=int(held or 0) + 1))

    await asyncio.gather(*(add_one() for _ in range(10)))
    async with ledger.reading() as session:
        assert await session.scalar(select(ENTRIES.c.amount)) == 10


@pytest.mark.parametrize("ledger_url", ["sqlite", "sqlite-short"], indirect=True)
async def test_short_statements_leave_the_loop_to_begin_and_to_commit_alone(
    ledger: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    visits: list[str] = []
    held = aiosqlite.Connection._execute

    async def counted(connection: aiosqlite.Connection, work: Any, *args: Any, **kwargs: Any) -> Any:
        visits.append(getattr(work, "__name__", ""))
        return await held(connection, work, *args, **kwargs)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(aiosqlite.Connection, "_execute", counted)
    async with ledger.transaction() as session:
        for number in range(5):
            await session.execute(insert(ENTRIES).values(name=f"n{number}", amount=number))
    assert visits == ["visit", *([] if ledger.short else ["visit"] * 5), "commit"]
    visits.clear()
    async with ledger.reading() as session:
        assert len((await session.execute(select(ENTRIES))).all()) == 5
    assert visits == ["visit", "visit", "rollback"], "a reader may take long"


@pytest.mark.parametrize("ledger_url", ["sqlite-short"], indirect=True)
async def test_whoever_is_cancelled_while_he_waits_to_begin_leaves_nothing_begun(ledger: Database) -> None:
    other = sqlite3.connect(str(ledger.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def write(name: str) -> None:
        async with ledger.transaction() as session:
            await session.execute(insert(ENTRIES).values(name=name, amount=1))

    waiting = asyncio.create_task(write("cancelled"))
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    other.rollback()
    other.close()
    await asyncio.wait_for(asyncio.gather(*(write(f"after-{number}") for number in range(3))), 10)
    assert await count(ledger, ENTRIES) == 3


async def test_a_reader_sees_one_snapshot(ledger: Database) -> None:
    async with ledger.reading() as session:
        assert (await session.execute(select(ENTRIES))).all() == []
        async with ledger.transaction() as writer:
            await writer.execute(insert(ENTRIES).values(name="a", amount=1))
        assert (await session.execute(select(ENTRIES))).all() == []
    assert await count(ledger, ENTRIES) == 1


async def test_replicas_take_turns_too(ledger: Database, ledger_url: str) -> None:
    if ledger.is_sqlite:
        return  # a second replica is refused
    other = await opened(ledger_url)
    async with ledger.transaction() as session:
        await session.execute(insert(ENTRIES).values(name="sum", amount=0))

    async def add_one(replica: Database) -> None:
        async with replica.transaction() as session:
            held = await session.scalar(select(ENTRIES.c.amount).where(ENTRIES.c.name == "sum"))
            await asyncio.sleep(0.01)
            await session.execute(update(ENTRIES).where(ENTRIES.c.name == "sum").values(amount=int(held or 0) + 1))

    await asyncio.gather(*(add_one(replica) for replica in (ledger, other) * 5))
    async with other.reading() as session:
        assert await session.scalar(select(ENTRIES.c.amount)) == 10
    await other.close()


async def test_readers_do_not_wait_for_a_writer(ledger: Database) -> None:
    async with ledger.transaction() as session:
        await session.execute(insert(ENTRIES).values(name="a", amount=1))
        assert await asyncio.wait_for(count(ledger, ENTRIES), 3) == 0


async def test_what_a_reader_writes_is_discarded(ledger: Database) -> None:
    async with ledger.reading() as session:
        await session.execute(insert(ENTRIES).values(name="a", amount=1))
    assert await count(ledger, ENTRIES) == 0


async def test_a_broken_constraint_is_a_conflict(ledger: Database) -> None:
    for expected in (None, Conflict):
        if expected is None:
            async with ledger.unit() as unit:
                await unit.session.execute(insert(ENTRIES).values(name="a", amount=1))
        else:
            with pytest.raises(expected):
                async with ledger.unit() as unit:
                    await unit.session.execute(insert(ENTRIES).values(name="a", amount=2))
