"""What came before an erasure was asked for is erased too, though it was still on its way."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from libs.contracts.subjects import FEEDBACK, INFERENCE
from services.ingestion.handlers.earlier import Earlier
from services.ingestion.handlers.progress import Progress
from services.ingestion.store import imports, inferences
from services.ingestion.tests.conftest import House
from services.ingestion.tests.test_erasing import SECRET, asked, erasing
from services.ingestion.tests.test_erasing_races import HIS
from services.ingestion.tests.test_inferences import OWNER, inference, listed

RECORD = f'{{"user": "ann", "output": "a", "input": "{SECRET}'
FILE = f'{RECORD}"}}\n{RECORD}\n'.encode()


async def test_an_erasure_waits_for_what_was_published_before_it(house: House, tmp_path: Path) -> None:
    await house.answer(inference("r1", **HIS), "triage")
    await house.say("triage", kind="correction", id="1", request_id="r1", user="bob", correction=SECRET)
    streams = [(FEEDBACK, "ingestion-feedback"), (INFERENCE, "ingestion-inference")]
    eraser = erasing(house, tmp_path)
    eraser._earlier = Earlier(house.database, [Progress(house.link, *each) for each in streams])
    running = asyncio.create_task(eraser.erase(asked()))
    await asyncio.sleep(0.7)
    assert not running.done()
    await house.consume()
    await asyncio.wait_for(running, 20)
    assert (await listed(house), await house.rows("triage")) == ([], [])
    assert await inferences.find(house.database, OWNER, ["r1"]) == {}


async def test_an_erasure_waits_for_an_import_that_was_begun_before_it(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.apply("triage", columns={"user": "user"}, few_import_errors=5)
    eraser, aside = erasing(house, tmp_path), house.importer._put_aside
    eraser._earlier = Earlier(house.database, [])
    running: list[asyncio.Task[None]] = []

    async def erased_meanwhile(*arguments: Any) -> str:
        running.append(asyncio.create_task(eraser.erase(asked())))
        await asyncio.sleep(0.7)
        assert not running[0].done()
        return await aside(*arguments)

    monkeypatch.setattr(house.importer, "_put_aside", erased_meanwhile)
    record = await house.import_bytes(FILE)
    assert (record.accepted, record.quarantined) == (1, 1)
    await asyncio.wait_for(running[0], 20)
    now = await imports.get(house.database, record.import_id)
    left = await house.objects.for_tenant("default").get_bytes(str(now.quarantine))
    assert (await house.rows("triage"), SECRET in left.decode()) == ([], False)


async def test_an_erasure_waits_for_no_import_that_came_after_it_nor_for_one_of_another_task(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for task in ("triage", "other"):
        await house.apply(task, columns={"user": "user"}, few_import_errors=5)
    eraser, aside, erasure = erasing(house, tmp_path), house.importer._put_aside, [asked()]
    eraser._earlier = Earlier(house.database, [])

    async def erased_meanwhile(*arguments: Any) -> str:
        await asyncio.wait_for(eraser.erase(erasure.pop()), 20)
        return await aside(*arguments)

    monkeypatch.setattr(house.importer, "_put_aside", erased_meanwhile)
    assert (await house.import_bytes(FILE)).accepted == 1
    erasure.append(asked("two"))
    assert (await house.import_bytes(FILE, task="other")).accepted == 1
