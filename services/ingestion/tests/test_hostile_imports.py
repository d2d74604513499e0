"""Every kind of hostile file through the whole importer: refused by name, or set aside row by row; nothing is lost."""

import csv
import gzip
import io
import json
import resource
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from libs.contracts.errors import InvalidInput
from services.ingestion.compute import tables
from services.ingestion.store.imports import quarantine_of
from services.ingestion.tests.conftest import House

COLUMNS = {"output": "output", "created_at": "at", "group": "thread", "category": "kind"}
GOOD: dict[str, Any] = {"input": "q", "output": "a", "at": 1.0, "thread": "t", "kind": "k"}
HOSTILE: dict[str, tuple[bytes, str]] = {
    "a NUL byte": (b'{"input": "a\x00b", "output": "a"}', "Invalid control character"),
    "a NUL character": (b'{"input": "a\\u0000b", "output": "a"}', "holds a NUL character"),
    "a NUL in a name": (b'{"input": "q", "output": "a", "thread": "x\\u0000"}', "holds a NUL character"),
    "half a surrogate pair": (b'{"input": "q", "output": "\\ud83d"}', "half a surrogate pair"),
    "another encoding": ('{"input": "grün", "output": "a"}'.encode("cp1252"), "is not UTF-8"),
    "a mark in mid-file": (b"\xef\xbb\xbf" + b'{"input": "q", "output": "a"}', "byte-order mark"),
    "deep JSON": (b'{"input": ' + b"[" * 99_999 + b"]" * 99_999 + b"}", "nested too deeply"),
    "doubled keys": (b'{"input": "q", "input": "r", "output": "a"}', "duplicate key"),
    "NaN": (b'{"input": "q", "output": "a", "at": NaN}', "NaN is not JSON"),
    "a number beyond all": (b'{"input": "q", "output": "a", "at": 1e999}', "neither an ISO 8601 time"),
    "a line beyond all": (b'{"input": "' + b"x" * 1024**2 + b'"}', "longer than 1048576 bytes"),
    "no object": (b'["q", "a"]', "not a JSON object"),
    "an empty object": (b"{}", "is missing"),
}


def good(at: int) -> bytes:
    return json.dumps({**GOOD, "input": f"q{at}"}).encode()


async def settled(house: House, data: bytes, name: str, **given: Any) -> tuple[Any, list[tuple[int, str]]]:
    """The import and what it set aside; every row is accounted for, and every good one can be read again."""
    record = await house.import_bytes(data, name=name, **given)
    assert record.rows == record.accepted + record.quarantined + record.already_seen
    assert len(await house.rows("triage")) == record.accepted
    bad = await quarantine_of(house.database, record.import_id, 100)
    assert len(bad) == record.quarantined
    return record, [(each.row, each.reason) for each in bad]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
async def test_each_hostile_row_costs_itself_alone_and_is_kept_as_it_lay(house: House, name: str) -> None:
    await house.apply("triage", max_import_errors=0.9)
    rows = [each for at, (row, _) in enumerate(HOSTILE.values()) for each in (good(at), row)]
    data = b"\n".join(rows) if name == "a.jsonl" else b"[" + b",\n".join(rows) + b"]"
    record, bad = await settled(house, data, name, columns=COLUMNS)
    assert (record.accepted, record.quarantined) == (len(HOSTILE), len(HOSTILE))
    assert [row for row, _ in bad] == list(range(2, 2 * len(HOSTILE) + 1, 2))
    for (what, (_, reason)), (_, said) in zip(HOSTILE.items(), bad, strict=True):
        assert reason.replace("line", "element" if name == "a.json" else "line") in said, what
    aside = (await house.objects.get_bytes(record.quarantine)).splitlines()
    kept = [json.loads(line) for line in aside]
    doubled = 2 * list(HOSTILE).index("doubled keys") + 2
    assert [each["raw"].strip() for each in kept if each["row"] == doubled] == [HOSTILE["doubled keys"][0].decode()]


async def test_a_hostile_csv_keeps_its_formulas_and_loses_only_what_cannot_be_read(house: House) -> None:
    text = io.StringIO()
    cells = ['=HYPERLINK("http://x.test")', "+1+1", "-2", "@SUM(A1)", "NaN", 'he said "no"\nand left', "q\x00"]
    csv.writer(text).writerows([["input", "output"], *([each, "a"] for each in cells)])
    data = (
        b"\xef\xbb\xbf"
        + text.getvalue().encode()
        + "grün,a\n".encode("latin-1")
        + b'"open,a\n'
        + b"last,a\n" * 3
        + b"x,y,z\n"
    )
    await house.apply("triage", max_import_errors=0.9)
    record, bad = await settled(house, data, "a.csv")
    assert [row["input"] for row in await house.rows("triage")] == [*cells[:-1], *["last"] * 3]
    assert (record.accepted, [reason for _, reason in bad]) == (
        9,
        [
            "holds a NUL character",
            "byte 3 of the record is not UTF-8",
            "a quote is opened and never closed",
            "3 fields where the header names 2",
        ],
    )


async def test_a_hostile_parquet_costs_only_the_rows_that_cannot_be_read(house: House) -> None:
    texts = pa.array([b"q", b"gr\xfcn", b"x" * (1024**2 + 1), b"r", b"a\x00b"]).cast(pa.string(), safe=False)
    moments = pa.array([1.0, 2.0, 3.0, float("nan"), 5.0])
    file = io.BytesIO()
    pq.write_table(pa.table({"input": texts, "output": ["a"] * 5, "at": moments}), file)
    await house.apply("triage", max_import_errors=0.9)
    record, bad = await settled(house, file.getvalue(), "a.parquet", columns={"created_at": "at"})
    assert (record.accepted, [row for row, _ in bad]) == (1, [2, 3, 4, 5])
    for (_, said), reason in zip(bad, ("not UTF-8", "more than 1048576", "ISO 8601", "NUL"), strict=True):
        assert reason in said


def parquet(**columns: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, store_schema=False)
    return file.getvalue()


def repeated(size: int, rows: int) -> pa.DictionaryArray:
    """A column that says one text in every row and holds it once."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * size]))


async def test_what_would_unpack_without_end_is_refused_and_leaves_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_MAX_VALUES", 10_000)
    blank = b" " * (300 * 1024**2)
    bombs = {
        "a.jsonl.gz": gzip.compress(good(0) + b"\n" + blank, compresslevel=1),
        "a.csv.zst": pa.compress(b"input,output\nq,a\n" + blank, codec="zstd", asbytes=True),
        "values.parquet": parquet(input=["q"], output=["a"], flags=[[0] * 20_000]),
        "fixed.parquet": parquet(input=["q"], output=pa.array([b"a" * 5000], pa.binary(5000))),
    }
    for name, data in bombs.items():
        with pytest.raises(InvalidInput) as raised:
            await house.import_bytes(data, name=name)
        assert raised.value.reason == "COMPRESSION_BOMB", name
        assert await house.rows("triage") == []


async def test_one_text_that_every_row_of_a_parquet_file_means_costs_its_rows_and_no_memory(house: House) -> None:
    """32 MiB in each of 600 rows are 19 GB written out."""
    await house.apply("triage", max_import_errors=1.0)
    turns = pa.StructArray.from_arrays(
        [pa.array(["user"] * 600), repeated(32 * 1024**2, 600)], names=["role", "content"]
    )
    nested = pa.ListArray.from_arrays(pa.array(range(601), pa.int32()), turns)
    for name, data in (
        ("flat.parquet", parquet(input=repeated(32 * 1024**2, 600), output=["a"] * 600)),
        ("nested.parquet", parquet(messages=nested)),
    ):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(InvalidInput, match="none of the first 200 records can be read"):
            await house.import_bytes(data, name=name)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024


async def test_values_that_stand_in_a_dictionary_are_read_as_those_that_do_not(house: House) -> None:
    file = io.BytesIO()
    threads = pa.array([4, None] * 350, pa.int64()).dictionary_encode()
    columns = {"input": repeated(60_000, 700), "output": ["a", "b"] * 350, "thread": threads, "tags": [["x"]] * 700}
    pq.write_table(pa.table(columns), file)
    record, _ = await settled(house, file.getvalue(), "a.parquet", columns={"output": "output", "group": "thread"})
    rows = await house.rows("triage")
    assert (record.accepted, {row["group"] for row in rows}, len(rows[0]["input"])) == (700, {"4", None}, 60_000)


async def test_times_beyond_pythons_and_inside_others_cost_no_more_than_their_row(house: House) -> None:
    turns = [
        {"role": role, "content": text, "at": datetime.now(UTC)} for role, text in (("user", "q"), ("assistant", "a"))
    ]
    silent = [*turns[:1], {**turns[1], "content": None}]
    far = pa.array([0, 2**61, 1], pa.int64())
    data = parquet(
        messages=[turns, turns, silent],
        seen=far.cast(pa.timestamp("us")),
        day=pa.array([0, 2**30, 1], pa.int32()).cast(pa.date32()),
        fine=pa.array([1, 2, 3], pa.timestamp("ns")),
        took=far.cast(pa.duration("s")),
        price=pa.array([Decimal("1.5")] * 3),
    )
    await house.apply("triage", max_import_errors=0.9)
    record, bad = await settled(house, data, "a.parquet")
    assert record.rows == 3
    assert not {row for row, _ in bad} & {1, 2}, bad


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
async def test_json_too_deep_to_be_written_again_costs_its_row(house: House, name: str) -> None:
    turn = '{"role": "%s", "content": %s}'
    chat = (
        '{"messages": ['
        + ", ".join((turn % ("user", '"q%d"'), turn % ("tool", "%s"), turn % ("assistant", '"a"')))
        + "]}"
    )
    rows = [
        chat % (at, '{"a":' * depth + "1" + "}" * depth) for at, depth in enumerate([1] * 150 + [*range(880, 1000)])
    ]
    data = ("\n".join(rows) if name == "a.jsonl" else f"[{','.join(rows)}]").encode()
    await house.apply("triage", max_import_errors=0.9)
    record, bad = await settled(house, data, name)
    assert record.rows == 270
    assert record.accepted >= 150
    assert all("too deeply" in reason for _, reason in bad), bad


def test_a_row_group_is_held_no_more_than_a_page_at_a_time_and_one_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = pa.array([f"{at:06}" * 150 for at in range(100_000)])
    pq.write_table(pa.table({"input": texts, "output": texts}), tmp_path / "t")
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in tables.rows(tmp_path / "t", "a.parquet")]
    assert (len(held), max(held) < 64 * 1024**2) == (100_000, True), max(held)
    pq.write_table(pa.table({"input": repeated(32 * 1024**2, 5)}), tmp_path / "t")
    for limit in ("_MAX_HELD_BYTES", "_MAX_GROUP_BYTES"):
        monkeypatch.setattr(tables, limit, 10 * 1024**2)
        with pytest.raises(InvalidInput, match="at most 1 rows"):
            list(tables.rows(tmp_path / "t", "a.parquet"))
