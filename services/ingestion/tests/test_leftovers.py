"""An import that is refused, killed or given up leaves no row that a build can read and no object behind."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from libs.artifacts import ObjectStore
from libs.contracts.errors import Conflict, InvalidInput, Unavailable
from libs.outbox.tests.conftest import POSTGRES, ledger_url, postgres  # noqa: F401 - fixtures
from services.ingestion.domain.imports import ImportRequest
from services.ingestion.store import imports, staged
from services.ingestion.store.tables import IMPORTED, IMPORTS, STAGED
from services.ingestion.tests.conftest import House
from services.ingestion.tests.test_tidying import objects, tidying
from services.ingestion.workflows.imports import Importer

GOOD = [{"input": f"q{at}", "output": "a"} for at in range(250)]
BAD = [b"{broken"] * 200
pytestmark = pytest.mark.parametrize("ledger_url", ["sqlite", *(["postgres"] if POSTGRES else [])], indirect=True)


@pytest.fixture
def database_url(ledger_url: str) -> str:  # noqa: F811
    """SQLite, and Postgres where this machine has one."""
    return ledger_url


def lines(*rows: Any) -> bytes:
    return b"\n".join(each if isinstance(each, bytes) else json.dumps(each).encode() for each in rows)


async def held(house: House) -> tuple[int, int]:
    """Rows that are staged or taken, and objects that are named and not listed."""
    async with house.database.reading() as session:
        counts = [await session.scalar(select(func.count()).select_from(table)) for table in (IMPORTED, STAGED)]
    return int(counts[0] or 0), int(counts[1] or 0)


async def state_of(house: House) -> list[str]:
    async with house.database.reading() as session:
        return list((await session.execute(select(IMPORTS.c.state))).scalars())


async def nothing_to_build(house: House) -> None:
    assert await house.rows("triage") == []
    assert await house.stored("EVT") == []
    assert (await held(house))[0] == 0


async def killed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import whose process goes after its second part was put."""
    stage, calls = imports.stage, 0

    async def gone(*_: Any) -> None:
        """Whoever is killed closes nothing."""

    async def dies(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise asyncio.CancelledError
        await stage(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(imports, "stage", dies)
        patched.setattr(Importer, "_give_up", gone)
        with pytest.raises(asyncio.CancelledError):
            await house.import_bytes(lines(*GOOD))


async def test_a_refused_import_keeps_its_quarantine_and_nothing_else(house: House) -> None:
    with pytest.raises(InvalidInput, match="200 of 450 rows are bad") as raised:
        await house.import_bytes(lines(*GOOD, *BAD))
    failed = await imports.get(house.database, raised.value.metadata["import_id"])
    assert await objects(house) == {failed.quarantine}
    await nothing_to_build(house)
    assert await held(house) == (0, 0)
    record = await house.import_bytes(lines(*GOOD))
    assert (record.accepted, len(await house.rows("triage")), await held(house)) == (250, 250, (250, 0))


async def test_a_file_that_turns_out_unreadable_leaves_nothing(house: House) -> None:
    data = json.dumps(GOOD).encode()[:-30]
    with pytest.raises(InvalidInput, match="is never closed"):
        await house.import_bytes(data, name="a.json")
    assert (await objects(house), await held(house), await state_of(house)) == (set(), (0, 0), ["failed"])
    await nothing_to_build(house)


async def test_a_killed_import_is_given_up_and_its_objects_go(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await killed(house, monkeypatch)
    assert len(await objects(house)) == 2
    tidy, _ = tidying(house, tmp_path)
    assert await tidy.give_up() == 0, "it may still run"
    assert (len(await objects(house)), await state_of(house)) == (2, ["running"])
    assert await tidy.give_up(0.0) == 2
    assert (await objects(house), await held(house), await state_of(house)) == (set(), (0, 0), ["failed"])
    await nothing_to_build(house)
    assert (await house.import_bytes(lines(*GOOD))).accepted == 250


async def test_an_import_done_again_after_a_kill_leaves_what_was_put_before_to_the_sweep(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await killed(house, monkeypatch)
    before = await objects(house)
    assert (await house.import_bytes(lines(*GOOD))).accepted == 250
    tidy, _ = tidying(house, tmp_path)
    assert await tidy.give_up() == 2
    assert not before & await objects(house)
    assert len(await house.rows("triage")) == 250


async def test_an_import_that_was_given_up_while_it_ran_lists_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = imports.complete

    async def late(unit: Any, record: Any, segments: Any) -> int:
        await unit.session.execute(update(IMPORTS).values(state="failed"))
        return await complete(unit, record, segments)

    monkeypatch.setattr(imports, "complete", late)
    with pytest.raises(Conflict, match="was ended meanwhile"):
        await house.import_bytes(lines(*GOOD))
    await nothing_to_build(house)
    assert await objects(house) == set()


@pytest.mark.parametrize("error", [asyncio.CancelledError, RuntimeError])
async def test_an_import_that_ends_in_any_other_way_is_closed_too(
    house: House, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    put, calls = ObjectStore.put_bytes, 0

    async def fails(self: ObjectStore, *arguments: Any, **given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise error
        return await put(self, *arguments, **given)

    monkeypatch.setattr(ObjectStore, "put_bytes", fails)
    with pytest.raises(error):
        await house.import_bytes(lines(*GOOD), ticket="t")
    told = house.importer.progress("default", "t")
    assert told is not None
    assert (told.state, await state_of(house)) == ("failed", ["failed"])
    assert (await objects(house), await held(house)) == (set(), (0, 0))


async def test_what_cannot_be_deleted_now_is_deleted_later_and_the_refusal_stands(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> None:
        raise Unavailable("object storage is away")

    with monkeypatch.context() as patched:
        patched.setattr(ObjectStore, "delete", away)
        with pytest.raises(InvalidInput, match="rows are bad"):
            await house.import_bytes(lines(*GOOD, *BAD))
    assert len(await objects(house)) > 1
    tidy, _ = tidying(house, tmp_path)
    await tidy.give_up()
    assert len(await objects(house)) == 1


async def test_an_object_that_another_import_names_or_lists_is_not_deleted(house: House) -> None:
    first = await house.import_bytes(lines(*GOOD))
    (listed, *_) = await objects(house)
    async with house.database.unit() as unit:
        for digest in (listed, "sha256:" + "1" * 64):
            await staged.note(unit, "default", "import-gone", digest)
    gone = await staged.leftovers(house.database)
    assert len(gone) == 2
    async with house.database.unit() as unit:
        await unit.session.execute(update(IMPORTS).values(state="running", started_at=time.time()))
        await staged.note(unit, "default", first.import_id, "sha256:" + "1" * 64)
        assert [await staged.forget(unit, each) for each in gone] == [False, False]
    assert listed in await objects(house)


async def test_an_attempt_overtaken_by_another_replica_lists_nothing_and_the_other_loses_no_row(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same file by two replicas: a client's retry, behind a load balancer."""
    other = Importer(
        house.database, house.objects.for_tenant, house.tasks, house.home / "other", segment_rows=100, max_bytes=10**7
    )
    put, second = ObjectStore.put_bytes, []

    async def retried(self: ObjectStore, *arguments: Any, **given: Any) -> Any:
        digest = await put(self, *arguments, **given)
        monkeypatch.setattr(ObjectStore, "put_bytes", put)
        second.append(await house.import_bytes(lines(*GOOD)))
        return digest

    monkeypatch.setattr(ObjectStore, "put_bytes", retried)
    first, house.importer = house.importer, other
    chunks = lines(*GOOD)

    async def sent() -> AsyncIterator[bytes]:
        yield chunks

    with pytest.raises(Conflict, match="ended meanwhile"):
        await first.run(ImportRequest("default", "triage", "a.jsonl", source="crm"), sent())
    (record,) = second
    assert (record.state, record.accepted, record.already_seen) == ("completed", 250, 0)
    assert {row["input"] for row in await house.rows("triage")} == {each["input"] for each in GOOD}
    assert len(await house.rows("triage")) == 250
    assert await held(house) == (250, 0)
    assert (await house.import_bytes(lines(*GOOD))).already_seen == 250
