"""What typed tables hold beside plain text: maps, bytes and days."""

import io
import json
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from services.ingestion.store import imports
from services.ingestion.tests.conftest import House

CALLS = pa.map_(pa.string(), pa.string())


def parquet(columns: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


async def test_bytes_that_are_no_utf8_are_set_aside_where_text_is_due_and_no_matter_elsewhere(house: House) -> None:
    columns = {
        "input": pa.array([b"caf\xc3\xa9", b"caf\xe9", b"tea"], pa.binary()),
        "output": pa.array(["a", "a", "a"]),
        "picture": pa.array([b"\x89PNG\xff"] * 3, pa.binary()),
    }
    done = await house.import_bytes(parquet(columns), name="a.parquet")
    assert (done.accepted, done.quarantined, done.unread) == (2, 1, ("picture",))
    assert [row["input"] for row in await house.rows("triage")] == ["caf\u00e9", "tea"]
    (bad,) = await imports.quarantine_of(house.database, done.import_id, 5)
    assert (bad.row, bad.field, bad.reason) == (2, "input", "must be text, not bytes that are no UTF-8")


async def test_bytes_within_a_conversation_are_refused_as_those_of_a_column_are(house: House) -> None:
    call = pa.struct([("name", pa.string()), ("arguments", pa.map_(pa.binary(), pa.binary()))])
    turn = pa.struct(
        [
            ("role", pa.binary()),
            ("content", pa.binary()),
            ("reasoning_content", pa.binary()),
            ("function_call", call),
            ("picture", pa.binary()),
        ]
    )
    user = {"role": b"user", "content": b"caf\xc3\xa9?"}
    last = {"role": b"assistant", "picture": b"\x89PNG\xff"}
    talks: list[Any] = [
        [user, {**last, "content": b"tea"}],
        [user, {**last, "content": b"caf\xe9"}],
        [user, {**last, "content": b"tea", "reasoning_content": b"caf\xe9"}],
        [user, {**last, "function_call": {"name": "weather", "arguments": [(b"city", b"K\xf6ln")]}}],
        [user, {**last, "function_call": {"name": "weather", "arguments": [(b"city", b"Ulm")]}}],
    ]
    await house.apply("triage", max_import_errors=0.9)
    done = await house.import_bytes(parquet({"messages": pa.array(talks, pa.list_(turn))}), name="a.parquet")
    assert (done.accepted, done.quarantined) == (2, 3)
    texts = "".join(row["messages"] for row in await house.rows("triage"))
    assert "caf\u00e9?" in texts
    assert "\ufffd" not in texts
    bad = await imports.quarantine_of(house.database, done.import_id, 5)
    assert [(each.row, each.field) for each in bad][:2] == [
        (2, "messages[1].content"),
        (3, "messages[1].reasoning_content"),
    ]
    kept = [json.loads(line) for line in (await house.objects.get_bytes(done.quarantine)).splitlines()]
    assert json.loads(kept[0]["raw"])["messages"][1]["content"] == "caf\\xe9"


async def test_a_map_is_an_object(house: House) -> None:
    columns = {
        "input": pa.array([f"q{at}" for at in range(4)]),
        "output": pa.array(["a"] * 4),
        "arguments": pa.array([[("city", "Ulm")], [], None, [("k", "v"), ("k", "w")]], CALLS),
    }
    done = await house.import_bytes(parquet(columns), name="a.parquet")
    assert (done.accepted, done.quarantined) == (3, 1)
    messages = pa.array(
        [[{"role": "user", "calls": None}, {"role": "assistant", "calls": [("city", "Ulm")]}]],
        pa.list_(pa.struct([("role", pa.string()), ("calls", CALLS)])),
    )
    shown = messages.to_pylist(maps_as_pydicts="strict")
    assert shown[0][1]["calls"] == {"city": "Ulm"}
    done = await house.import_bytes(parquet({"input": ["q"], "output": ["a"], "beside": messages}), name="b.parquet")
    assert (done.accepted, done.unread) == (1, ("beside",))


async def test_a_day_and_seconds_in_words_say_when_a_row_was_made(house: House) -> None:
    columns = {"columns": {"created_at": "at"}}
    days = parquet({"input": ["q"], "output": ["a"], "at": pa.array([date(2026, 11, 1)], pa.date32())})
    await house.import_bytes(days, name="a.parquet", **columns)
    await house.import_bytes(
        b"input,output,at\nq2,a,1793491200\nq3,a,1793491200.5\nq4,a,20261101\n", name="b.csv", **columns
    )
    told = [row["created_at"].isoformat() for row in await house.rows("triage")]
    assert told == [
        "2026-11-01T00:00:00+00:00",
        "2026-11-01T00:00:00+00:00",
        "2026-11-01T00:00:00.500000+00:00",
        "2026-11-01T00:00:00+00:00",
    ]
