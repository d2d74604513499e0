"""An erased subject leaves segments, inference log and database, and what others said stays."""

import base64
import json
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from libs.artifacts import ObjectStore
from libs.contracts.envelope import Envelope, envelop
from libs.contracts.errors import Unavailable
from libs.contracts.events import SubjectErased
from libs.contracts.inference import Message
from libs.testing.wait import eventually
from services.ingestion.compute.erasing import ERASED, quarantine_without
from services.ingestion.domain.rows import hashed_user
from services.ingestion.handlers.erasing import Erasing
from services.ingestion.store import imports
from services.ingestion.store.puts import JournalledStore, PutJournal
from services.ingestion.store.segments import segments_after
from services.ingestion.store.tables import SAID, WAITING
from services.ingestion.tests.conftest import House
from services.ingestion.tests.test_inferences import deliver, inference, listed

ANN = str(hashed_user("default", "ann"))
SECRET = "my number is 17 at the harbour"


def erasing(house: House, home: Path) -> Erasing:
    journal = PutJournal(home / "puts.log")

    def kept(tenant: str) -> JournalledStore:
        return JournalledStore(house.objects.for_tenant(tenant), journal, tenant)

    return Erasing(house.database, kept)


def asked(by: str = "one") -> Envelope[SubjectErased]:
    fact = SubjectErased(
        tenant="default", task="triage", user=ANN, rows=1, datasets=(), numbers=(), reason="article 17"
    )
    return envelop(fact, source="test", id=f"erasure-{by}")


async def taken(house: House, count: int) -> list[dict[str, Any]]:
    async def there() -> list[dict[str, Any]]:
        rows = await house.rows("triage")
        return rows if len(rows) == count else []

    return list(await eventually(there, 20))


async def bytes_of_everything(house: House) -> str:
    store = house.objects.for_tenant("default")
    every = [each.digest async for each in store.list_objects()]
    return " ".join([(await store.get_bytes(digest)).decode("latin-1") for digest in every])


@pytest.mark.parametrize("times", [1, 2])
async def test_an_erased_user_leaves_every_segment_and_no_judgement_speaks_for_him(
    house: House, tmp_path: Path, times: int
) -> None:
    await deliver(house, inference("r1"), inference("r2", unit="ann", messages=(Message(role="user", content=SECRET),)))
    await house.consume()
    await house.say("triage", kind="correction", id="1", request_id="r1", user="ann", correction=SECRET)
    await taken(house, 1)
    await house.say("triage", kind="rating", id="2", request_id="r1", user="bob", rating=0)
    rows = await taken(house, 2)
    assert SECRET in str(rows[1]["judgement"])
    old = [each.digest for each in await segments_after(house.database, "default", "triage", 0, 10)]
    for _ in range(times):
        await erasing(house, tmp_path).erase(asked())
    (left,) = await house.rows("triage")
    assert (left["row_id"], left["judgement"], left["signal"]) == (rows[1]["row_id"], None, "bad")
    assert [request for request, _, _ in await listed(house)] == ["r1"]

    async def told() -> list[dict[str, Any]]:
        return [body for subject, body in await house.stored("EVT") if "segments.rewritten" in subject]

    (fact,) = await eventually(told, 10)
    assert [each["before"] for each in fact["segments"]] == old
    # Whoever reads segments deletes the old ones; then nothing is left of him, in any object.
    for digest in old:
        await house.objects.for_tenant("default").delete(digest)
    assert SECRET not in await bytes_of_everything(house)
    await house.say("triage", kind="rating", id="3", request_id="r1", user="eve", rating=0)
    later = json.loads((await taken(house, 2))[1]["judgement"])
    assert later["output"] is None
    assert later["bad"] == 2
    assert len(later["rows"]) == 2


async def test_what_he_asked_goes_though_somebody_else_said_how_good_the_answer_was(
    house: House, tmp_path: Path
) -> None:
    # Serving logs a hash in the place of his name.
    messages = (Message(role="user", content=SECRET),)
    await deliver(house, inference("r1", unit=ANN, messages=messages, output=SECRET), inference("r2", unit="bob"))
    await house.consume()
    await house.say("triage", kind="correction", id="1", request_id="r1", user="expert", correction="at the harbour")
    await house.say("triage", kind="correction", id="2", request_id="r2", user="expert", correction="elsewhere")
    rows = await taken(house, 2)
    assert {row["request_id"]: row["subject"] == ANN for row in rows} == {"r1": True, "r2": False}
    await house.say("triage", kind="rating", rating=0, id="3", source="late", request_id="r1", user="boss")
    await taken(house, 3)
    old = [each.digest for each in await segments_after(house.database, "default", "triage", 0, 10)]
    await erasing(house, tmp_path).erase(asked())
    assert [row["request_id"] for row in await house.rows("triage")] == ["r2"]
    for digest in old:
        await house.objects.for_tenant("default").delete(digest)
    assert SECRET not in await bytes_of_everything(house)
    async with house.database.reading() as session:
        words = " ".join([bytes(word).decode() for word in (await session.execute(select(SAID.c.said))).scalars()])
    assert SECRET not in words
    assert "harbour" not in words
    assert "elsewhere" in words


async def test_an_erased_user_leaves_the_records_that_an_import_set_aside(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quarantine is larger than what is read into memory at once."""
    await house.apply("triage", max_import_errors=1.0, columns={"user": "who"})
    lines = [
        json.dumps({"input": "q", "output": "a", "who": "bob"}),
        json.dumps({"input": "q", "output": "a" * 200_000, "who": "bob"}),
        json.dumps({"input": "q", "output": None, "who": " ann", "note": SECRET}),
        json.dumps({"input": SECRET, "output": "a", "created_at": SECRET, "who": "ann"})[:-1],
        json.dumps({"input": "", "output": "a", "who": "anna"}),
    ]
    record = await house.import_bytes("\n".join(lines).encode())
    assert (record.accepted, record.quarantined) == (1, 4)
    assert SECRET in await bytes_of_everything(house)
    monkeypatch.setattr(ObjectStore, "get_bytes", partialmethod(ObjectStore.get_bytes, limit=100_000))
    for by in ("one", "two"):
        await erasing(house, tmp_path).erase(asked(by))
    monkeypatch.undo()
    now = await imports.get(house.database, record.import_id)
    assert now.quarantined == 4
    data = await house.objects.for_tenant("default").get_bytes(str(now.quarantine))
    aside = [json.loads(line) for line in data.decode().splitlines()]
    assert [(each["row"], each["reason"] == ERASED) for each in aside] == [
        (2, False), (3, True), (4, True), (5, False),
    ]  # fmt: skip
    assert (len(aside[0]["raw"]) > 200_000, "anna" in aside[3]["raw"]) == (True, True)
    listed_ = await imports.quarantine_of(house.database, record.import_id, 10)
    assert [each.reason == ERASED for each in listed_] == [False, True, True, False]
    assert SECRET not in await bytes_of_everything(house)


@pytest.mark.parametrize(
    ("raw", "user"),
    [
        ("bob,x", "bob"),
        ("bob|x", "bob"),
        ("x;bob\r\n", "bob"),
        ("user:42,hello,x", "user:42"),
        ("hello,urn:user:42\n", "urn:user:42"),
        ("x\ta{b}", "a{b}"),
        ("a|b,x", "a|b"),
        ('"Doe, Jane",x', "Doe, Jane"),
        ('"O""Hara",x', 'O"Hara'),
        ('"two\nlines",O"Hara', 'O"Hara'),
        ('{"user": 42, "x":1', "42"),
        ('{"user":"b\\u00f6b"', "b\u00f6b"),
        (json.dumps({"messages": json.dumps([{"role": "user", "name": "bob"}])}), "bob"),
        (json.dumps({"outer": json.dumps({"inner": json.dumps({"user": 'O"Hara: a'})})}), 'O"Hara: a'),
        (json.dumps({"inner": json.dumps({"user": 'O"Hara: a', "x": "y" * 99})})[:-20], 'O"Hara: a'),
        (json.dumps({"inner": json.dumps({"user": "b\u00f6b", "x": "\u00f6"})})[:-6], "b\u00f6b"),
        (json.dumps({"text": '"' * 400_000, "user": "bob"})[:-1], "bob"),
        (json.dumps({"user": "bob", "text": '"' * 400_000})[:-9], "bob"),
    ],
)
def test_a_name_is_found_however_a_record_that_was_set_aside_writes_it(tmp_path: Path, raw: str, user: str) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.write_text(json.dumps({"row": 2, "field": "", "reason": "x", "raw": raw}) + "\n")
    assert quarantine_without(before, after, "default", str(hashed_user("default", user))) == [2]
    assert user not in after.read_text()
    assert quarantine_without(before, after, "default", str(hashed_user("default", "somebody"))) == []


@pytest.mark.parametrize("letters", ["utf-8", "latin-1", "cp1252", "utf-16", "utf-16-be"])
def test_a_name_is_found_in_whatever_letters_a_record_is_written(tmp_path: Path, letters: str) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    raw = base64.b64encode('{"user": "Jos\u00e9", "x": "\u00ff"'.encode(letters) + b"\xff").decode()
    before.write_text(json.dumps({"row": 2, "field": "", "reason": "x", "raw_base64": raw}) + "\n")
    assert quarantine_without(before, after, "default", str(hashed_user("default", "Jos\u00e9"))) == [2]
    assert quarantine_without(before, after, "default", str(hashed_user("default", "Jose"))) == []


async def test_a_record_that_is_his_under_one_version_is_erased_under_all(house: House, tmp_path: Path) -> None:
    data = json.dumps({"input": SECRET, "output": "a", "who": "ann"}).encode()
    await house.import_bytes(data)
    await house.import_bytes(data, columns={"user": "who"})
    assert len(await house.rows("triage")) == 2
    await erasing(house, tmp_path).erase(asked())
    assert await house.rows("triage") == []


async def test_a_segment_of_which_one_erasure_left_no_row_is_no_matter_to_the_next(
    house: House, tmp_path: Path
) -> None:
    await house.consume()
    for at, user in enumerate(("ann", "bob")):
        await house.say("triage", kind="correction", id=str(at), input="q", correction="right", user=user)
        await taken(house, at + 1)
    for at, name in enumerate(("ann", "bob", "carol")):
        fact = asked(name).data.model_copy(update={"user": str(hashed_user("default", name))})
        await erasing(house, tmp_path).erase(envelop(fact, source="test", id=f"erasure-{name}"))
        assert len(await house.rows("triage")) == max(0, 1 - at)


async def test_an_erasure_of_somebody_unknown_rewrites_nothing(house: House, tmp_path: Path) -> None:
    await house.import_bytes(b'{"input": "q", "output": "a"}\n')
    before = await segments_after(house.database, "default", "triage", 0, 10)
    await erasing(house, tmp_path).erase(asked())
    assert await segments_after(house.database, "default", "triage", 0, 10) == before
    assert not [subject for subject, _ in await house.stored("EVT") if "rewritten" in subject]


async def test_what_an_erasure_could_not_delete_goes_when_it_is_told_again_or_tidied(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deliver(house, inference("r1", unit="ann", messages=(Message(role="user", content=SECRET),)))

    async def away(*_: Any) -> None:
        raise Unavailable("object storage is away")

    with monkeypatch.context() as patched:
        patched.setattr(ObjectStore, "delete", away)
        with pytest.raises(Unavailable):
            await erasing(house, tmp_path).erase(asked())
    assert SECRET in await bytes_of_everything(house)
    await erasing(house, tmp_path).erase(asked())
    assert SECRET not in await bytes_of_everything(house)


async def test_a_signal_that_waits_goes_whatever_the_contract_says_of_it_by_now(house: House, tmp_path: Path) -> None:
    now = {"tenant": "default", "task": "triage", "source": "app", "stream_seq": 1, "arrived_at": 0.0}
    bodies = {
        "old stars": {"kind": "rating", "rating": 0, "scale": 5, "request_id": "r1", "user": "ann", "comment": SECRET},
        "lenient": {"kind": "rating", "rating": "1", "request_id": "r1", "user": "ann", "comment": SECRET},
        "bob's": {"kind": "rating", "rating": 0, "scale": 5, "request_id": "r1", "user": "bob"},
    }
    async with house.database.unit() as unit:
        for name, body in bodies.items():
            values = {"id": name, "request_id": "r1", "payload": json.dumps(body), "expires_at": 9e9}
            await unit.session.execute(WAITING.insert().values(**now, **values))
    await erasing(house, tmp_path).erase(asked())
    async with house.database.reading() as session:
        assert list((await session.execute(select(WAITING.c.id))).scalars()) == ["bob's"]
