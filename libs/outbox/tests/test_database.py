"""A database is what the code means it to be, survives what its process does not, and says what is wrong with it."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError

from libs.contracts.errors import (
    Busy,
    FailedPrecondition,
    InvalidInput,
    PawlError,
    ResourceExhausted,
    Unavailable,
)
from libs.outbox.database import Database
from libs.outbox.failures import translate
from libs.outbox.migrate import drift, migrate
from libs.outbox.tests.conftest import LEDGER, count, opened, rows
from libs.outbox.tests.ledger.store import ENTRIES, METADATA


async def test_the_migrated_schema_is_the_one_the_code_means(ledger_url: str) -> None:
    assert await migrate(ledger_url, LEDGER) == "0001"
    assert await migrate(ledger_url, LEDGER) == "0001"
    assert await drift(ledger_url, LEDGER, METADATA) == []


async def test_a_database_that_was_not_migrated_says_so(ledger_url: str) -> None:
    database = Database(ledger_url, metadata=METADATA, service="ledger")
    await database.open()
    with pytest.raises(FailedPrecondition, match="not migrated"):
        await count(database, database.outbox)
    await database.close()


async def test_a_database_of_a_newer_version_is_refused(ledger: Database, ledger_url: str) -> None:
    async with ledger.transaction() as session:
        await session.execute(text("UPDATE schema_version SET version_num = '0099'"))
    await ledger.close()
    with pytest.raises(FailedPrecondition, match="0099"):
        await migrate(ledger_url, LEDGER)


async def test_a_second_replica_on_one_sqlite_file_is_refused(database_url: str) -> None:
    first = await opened(database_url)
    second = Database(database_url, metadata=METADATA, service="ledger")
    with pytest.raises(FailedPrecondition, match="one replica") as refused:
        await second.open()
    assert refused.value.field == "database_url"
    await first.close()
    await second.open()
    await second.close()


async def test_a_full_disk_is_told_from_a_bug(database_url: str) -> None:
    database = await opened(database_url)
    async with database.transaction() as session:
        pages = (await session.execute(text("PRAGMA page_count"))).scalar_one()

    async def fill() -> None:
        async with database.unit() as unit:
            await unit.session.execute(text(f"PRAGMA max_page_count = {pages + 2}"))
            for number in range(500):
                await unit.session.execute(insert(ENTRIES).values(name="x" * 50 + str(number), amount=number))

    with pytest.raises(ResourceExhausted, match="disk is full"):
        await fill()
    assert await count(database, ENTRIES) == 0
    await database.close()


async def test_a_transaction_inside_a_transaction_is_refused_instead_of_waiting_for_itself(database_url: str) -> None:
    database = await opened(database_url)
    with pytest.raises(FailedPrecondition, match="wait for itself"):
        async with database.transaction(), database.transaction():
            pass
    await database.close()


async def test_a_committed_unit_survives_kill_9(database_url: str) -> None:
    import subprocess
    import sys

    program = f"""
import asyncio, os, signal
from libs.outbox.tests.conftest import LEDGER, count, opened, rows
from libs.outbox.tests.test_unit import fact
async def main():
    database = await opened({database_url!r})
    async with database.unit() as unit:
        unit.emit(fact(), output="booked")
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    killed = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program], timeout=60)
    assert killed.returncode == -9
    database = await opened(database_url)  # the lock died with its holder
    assert len(await rows(database)) == 1
    await database.close()


@pytest.mark.parametrize(
    ("url", "complaint"),
    [("mysql://x/y", "neither sqlite nor postgresql"), ("nonsense", "not a database URL")],
)
def test_a_url_that_cannot_work_is_refused(url: str, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint) as refused:
        Database(url, metadata=METADATA)
    assert refused.value.field == "database_url"


async def test_a_path_that_cannot_be_a_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    database = Database(f"sqlite:///{tmp_path}/file/below.db", metadata=METADATA)
    with pytest.raises(FailedPrecondition, match="cannot use"):
        await database.open()


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("57P03", Unavailable),  # the database system is starting up
        ("57P01", Unavailable),
        ("53300", Unavailable),
        ("08006", Unavailable),
        ("25006", Unavailable),
        ("53100", ResourceExhausted),
        ("55P03", Busy),
        ("40001", Busy),
        ("40P01", Busy),
        ("22001", FailedPrecondition),
    ],
)
def test_what_postgres_says_of_itself_is_told_from_a_bug(state: str, kind: type[PawlError]) -> None:
    class Said(Exception):
        sqlstate = state

    said = Said("could not extend file" if state == "53100" else "words that may be in any language")
    assert type(translate(DBAPIError("SELECT 1", {}, said))) is kind


@pytest.mark.parametrize("place", ["127.0.0.1:9", "no-such-host.invalid"])
async def test_a_postgres_that_does_not_answer_is_unavailable(place: str) -> None:
    database = Database(f"postgresql://pawl@{place}/x", metadata=METADATA)
    with pytest.raises(Unavailable):
        await database.open()
