"""What arrives while a subject is erased: his words are neither joined from memory nor left in what is listed then."""

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from libs.contracts.inference import Message
from services.ingestion.handlers.erasing import Erasing
from services.ingestion.handlers.feedback import FeedbackIntake
from services.ingestion.store import imports, inferences
from services.ingestion.tests.conftest import House, all_acknowledged
from services.ingestion.tests.test_erasing import ANN, SECRET, asked, bytes_of_everything, erasing, taken
from services.ingestion.tests.test_inferences import OWNER, deliver, inference, listed
from services.ingestion.tests.test_tidying import objects

HIS = {"unit": "ann", "messages": (Message(role="user", content=SECRET),)}


@pytest.mark.parametrize("late", [False, True])
async def test_a_batch_that_joined_his_words_before_another_replica_erased_them_does_not_store_them(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    house.patience = 30.0 if late else 0.0
    await house.stop()
    await house.start()
    store, before = FeedbackIntake._store, [asked()]

    async def slow(self: FeedbackIntake, *arguments: Any) -> Any:
        stored = await store(self, *arguments)
        if before:
            await erasing(house, tmp_path).erase(before.pop())
        return stored

    monkeypatch.setattr(FeedbackIntake, "_store", slow)
    if late:
        await house.consume()
        await house.say("triage", kind="rating", id="1", request_id="r1", user="bob", rating=0, input="q")
        await all_acknowledged(house)
    await deliver(house, inference("r1", **HIS), inference("r2"))
    if not late:
        await house.say("triage", kind="rating", id="1", request_id="r1", user="bob", rating=0, input="q")
        await house.consume()
    await house.say("triage", kind="rating", id="2", request_id="r2", user="bob", rating=0)
    rows = {row["request_id"]: row for row in await taken(house, 1 if late else 2)}
    assert not before
    assert SECRET not in str(rows)
    assert rows["r2"]["input"] == "my printer burns"


async def test_what_was_at_hand_before_another_replica_erased_it_is_not_joined(house: House, tmp_path: Path) -> None:
    house.patience = 0.0
    await house.stop()
    await house.start()
    await deliver(house, inference("r1", **HIS))
    await erasing(house, tmp_path).erase(asked())
    await house.consume()
    await house.say("triage", kind="rating", id="1", request_id="r1", user="bob", rating=0, input="q")
    assert [row["input"] for row in await taken(house, 1)] == ["q"]


async def test_what_is_listed_while_a_subject_is_erased_loses_him_too(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deliver(house, inference("r1"))
    await house.consume()
    await house.say("triage", kind="correction", id="1", request_id="r1", user="ann", correction=SECRET)
    await taken(house, 1)
    commit, late = Erasing._commit, [True]

    async def after_more(self: Erasing, *arguments: Any) -> Any:
        if late:
            late.clear()
            await deliver(house, inference("r2", **HIS))
            await house.say("triage", kind="rating", id="2", request_id="r1", user="bob", rating=0)
            await taken(house, 2)
            await house.say("triage", kind="rating", id="3", request_id="r1", user="ann", rating=0)
            await taken(house, 3)
        return await commit(self, *arguments)

    monkeypatch.setattr(Erasing, "_commit", after_more)
    await erasing(house, tmp_path).erase(asked())
    assert [(row["row_id"], row["judgement"]) for row in await house.rows("triage")] == [
        (row["row_id"], None) for row in await house.rows("triage") if row["user"] != ANN
    ]
    assert len(await house.rows("triage")) == 1
    assert [request for request, _, _ in await listed(house)] == ["r1"]
    assert list(await inferences.find(house.database, OWNER, ["r1", "r2"])) == ["r1"]


async def test_an_erasure_ends_though_more_is_always_listed(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, count = Erasing._commit, itertools.count()

    async def after_more(self: Erasing, *arguments: Any) -> Any:
        await deliver(house, inference(f"r{next(count)}", **HIS))
        return await commit(self, *arguments)

    monkeypatch.setattr(Erasing, "_commit", after_more)
    await erasing(house, tmp_path).erase(asked())
    assert next(count) > 1
    assert SECRET not in await bytes_of_everything(house)
    assert await listed(house) == []


async def test_an_erasure_waits_for_the_batch_at_hand_and_the_next_batch_for_the_erasure(
    house: House, tmp_path: Path
) -> None:
    eraser = erasing(house, tmp_path)
    eraser._turn = house.feedback.turn
    await deliver(house, inference("r1", **HIS))
    await house.feedback.turn.acquire()
    running = asyncio.create_task(eraser.erase(asked()))
    await asyncio.sleep(0.3)
    assert not running.done()
    house.feedback.turn.release()
    await asyncio.wait_for(running, 10)
    assert await listed(house) == []


async def test_a_quarantine_that_a_running_import_is_about_to_list_is_not_deleted_by_an_erasure(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.apply("triage", few_import_errors=5)
    await house.apply("other", few_import_errors=5)
    data = json.dumps({"input": "q", "output": "a"}).encode() + b'\n{"user":"ann","input":"cut\n'
    first = await house.import_bytes(data)
    put = house.importer._put_aside

    async def erased_meanwhile(record: Any, path: Path) -> str:
        digest = await put(record, path)
        await erasing(house, tmp_path).erase(asked())
        return digest

    monkeypatch.setattr(house.importer, "_put_aside", erased_meanwhile)
    second = await house.import_bytes(data, task="other")
    assert first.quarantine != second.quarantine
    assert second.quarantine in await objects(house)
    now = await imports.get(house.database, first.import_id)
    assert now.quarantine != first.quarantine
