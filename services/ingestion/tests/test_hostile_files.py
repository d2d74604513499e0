"""Whatever a file holds: a clear error or a named fault, bounded memory, and not a row lost."""

import csv
import gzip
import io
import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.contracts.errors import InvalidInput
from services.ingestion.compute import files
from services.ingestion.compute.arrays import _Cutter
from services.ingestion.compute.files import Fault, Record

GOOD = b'{"input": "q", "output": "a"}'


def read(directory: Path, name: str, data: bytes) -> list[Record | Fault]:
    path = directory / "file"
    path.write_bytes(data)
    return list(files.read(path, name, files.detect(path, name)))


def faults(found: list[Record | Fault]) -> list[tuple[int, str]]:
    return [(each.number, each.reason) for each in found if isinstance(each, Fault)]


def packed(chunks: Iterator[bytes], path: Path) -> Path:
    with gzip.open(path, "wb", compresslevel=1) as target:
        for chunk in chunks:
            target.write(chunk)
    return path


def test_a_compression_bomb_is_refused_before_it_has_unpacked(tmp_path: Path) -> None:
    path = packed((b" " * 1024**2 for _ in range(300)), tmp_path / "bomb")
    with pytest.raises(InvalidInput, match="compression bomb") as raised:
        list(files.read(path, "a.jsonl.gz", "jsonl"))
    assert raised.value.reason == "COMPRESSION_BOMB"


@pytest.mark.parametrize(
    ("name", "head", "tail", "what", "places"),
    [
        ("a.jsonl", GOOD + b'\n{"input": "', b'"}\n' + GOOD, "line", [1, 2, 3]),
        ("a.json", b"[" + GOOD + b',{"input": "', b'"},' + GOOD + b"]", "element", [1, 2, 3]),
        ("a.csv", b"input,output\nq,a\n", b",a\nq,a\n", "line", [2, 3, 4]),
    ],
)
def test_a_line_of_a_gigabyte_costs_itself_alone_and_no_memory(
    tmp_path: Path, name: str, head: bytes, tail: bytes, what: str, places: list[int]
) -> None:
    path = tmp_path / "file"
    with path.open("wb") as target:
        target.write(head)
        target.truncate(1024**3)
        target.seek(0, io.SEEK_END)
        target.write(tail)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = list(files.read(path, name, name.removeprefix("a.")))
    assert [each.number for each in found] == places
    assert faults(found) == [(places[1], f"the {what} is longer than 1048576 bytes")]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"input": "a\x00b", "output": "a"}', "Invalid control character"),
        (b'{"input": "caf\xe9", "output": "a"}', "byte 15 of the record is not UTF-8"),
        (b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"input": "q", "input": "r", "output": "a"}', "duplicate key"),
        (b'{"input": "q", "output": NaN}', "NaN is not JSON"),
        (b'{"input": "q", "output": -Infinity}', "-Infinity is not JSON"),
        (b'{"input": 1' + b"0" * 5000 + b"}", "not JSON"),
        (b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_a_hostile_line_is_a_fault_of_its_own(tmp_path: Path, line: bytes, reason: str) -> None:
    for name, data in (("a.jsonl", GOOD + b"\n" + line + b"\n" + GOOD), ("a.json", b"[" + GOOD + b"," + line + b"]")):
        found = read(tmp_path, name, data)
        assert [number for number, said in faults(found) if reason in said] == [2], faults(found)
        assert len(found) == (3 if name == "a.jsonl" else 2)


def test_a_byte_order_mark_is_no_part_of_the_first_field(tmp_path: Path) -> None:
    for name, data in (("a.jsonl", GOOD), ("a.json", b"[" + GOOD + b"]"), ("a.csv", b"input,output\nq,a\n")):
        (only,) = read(tmp_path, name, b"\xef\xbb\xbf" + data)
        assert isinstance(only, Record)
        assert only.fields == {"input": "q", "output": "a"}


def test_formulas_in_cells_stay_the_text_they_are(tmp_path: Path) -> None:
    cells = ['=HYPERLINK("http://x.test")', "+1+1", "-2", "@SUM(A1)", "=cmd|' /C calc'!A0"]
    text = io.StringIO()
    csv.writer(text).writerows([["input", "output"], *([each, "a"] for each in cells)])
    found = read(tmp_path, "a.csv", text.getvalue().encode())
    assert [each.fields["input"] for each in found if isinstance(each, Record)] == cells


def test_mixed_encodings_cost_only_the_rows_that_are_not_utf_8(tmp_path: Path) -> None:
    rows = ["grün".encode(), "grün".encode("latin-1"), "grün".encode("cp1252"), "🙂".encode()]
    found = read(tmp_path, "a.csv", b"input,output\n" + b"".join(each + b",a\n" for each in rows))
    assert [number for number, _ in faults(found)] == [3, 4]
    assert [each.raw for each in found if isinstance(each, Fault)] == [rows[1] + b",a\n", rows[2] + b",a\n"]


@pytest.mark.parametrize("name", ["a.parquet", "a.csv.gz", "a.txt", "a"])
def test_a_wrong_extension_does_not_decide_what_the_bytes_are(tmp_path: Path, name: str) -> None:
    if name == "a.parquet":
        with pytest.raises(InvalidInput, match="is not Parquet: it begins with"):
            read(tmp_path, name, GOOD)
        return
    data = b"input,output\nq,a\n" if "csv" in name else GOOD
    (only,) = read(tmp_path, name, data)
    assert isinstance(only, Record)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"  \n \n", "is empty"),
        (gzip.compress(b"", mtime=0), "is empty"),
        (gzip.compress(GOOD * 1000, mtime=0)[:-30], "damaged"),
        (pa.compress(GOOD * 1000, codec="zstd", asbytes=True)[:-9], "damaged"),
        (b"PK\x03\x04" + b"x" * 100, "a zip archive"),
        (b"\x00" * 5000, "binary"),
        (b"PAR1" + b"\x00" * 100, "not a Parquet file that can be read"),
        (b'[{"a": 1}]]', "more is closed than was opened"),
        (b'[{"a": 1}, {"b": "', "element 2 is never closed"),
    ],
)
def test_a_file_that_is_none_is_refused_with_the_reason(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read(tmp_path, "a.json", data)


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
@pytest.mark.parametrize(("name", "data"), [("a.jsonl", GOOD), ("a.json", b"[" + GOOD + b"]"), ("a.csv", b"input\nq")])
def test_each_format_is_read_packed_too(tmp_path: Path, codec: str, name: str, data: bytes) -> None:
    whole = gzip.compress(data) if codec == "gzip" else pa.compress(data, codec="zstd", asbytes=True)
    assert read(tmp_path, name, whole)[0].fields["input"] == "q"  # type: ignore[union-attr]


def test_parquet_rows_come_nested_as_they_are_and_an_oversized_cell_costs_its_row(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "name": "x"}]
    table = pa.table({"messages": [turns, turns, None], "note": ["", "x" * (1024**2 + 1), None]})
    pq.write_table(table, tmp_path / "t")
    found = read(tmp_path, "a.parquet", (tmp_path / "t").read_bytes())
    assert isinstance(found[0], Record)
    assert found[0].fields["messages"] == turns
    assert faults(found) == [(2, "holds more than 1048576 bytes")]
    assert len(found) == 3
    kept = json.loads(found[1].raw)
    assert (kept["messages"][1]["name"], kept["note"]) == ("x", "x" * 65_536)


def test_parquet_that_names_a_column_twice_is_refused_and_none_of_them_taken(tmp_path: Path) -> None:
    columns = [pa.array(["q"]), pa.array(["this"]), pa.array(["that"])]
    pq.write_table(pa.Table.from_arrays(columns, names=["input", "output", "output"]), tmp_path / "t")
    with pytest.raises(InvalidInput, match="has the column 'output' twice"):
        read(tmp_path, "a.parquet", (tmp_path / "t").read_bytes())


def test_text_in_parquet_that_is_not_utf_8_costs_its_row_alone(tmp_path: Path) -> None:
    raw = pa.array([b"fine", b"caf\xe9", b"fine"])
    pq.write_table(pa.table({"text": raw.cast(pa.string(), safe=False)}), tmp_path / "t")
    found = read(tmp_path, "a.parquet", (tmp_path / "t").read_bytes())
    assert [isinstance(each, Record) for each in found] == [True, False, True]
    assert json.loads(found[1].raw) == {"text": "caf\\xe9"}


@given(
    st.lists(st.dictionaries(st.text(max_size=4), st.recursive(st.text(), st.lists, max_leaves=4)), max_size=6),
    st.integers(1, 9),
    st.sampled_from([None, 2]),
)
def test_an_array_cut_into_chunks_anywhere_yields_each_element_once(rows: Any, size: int, indent: int | None) -> None:
    data = json.dumps(rows, ensure_ascii=False, indent=indent).encode()
    cutter, found = _Cutter("a.json"), []
    for at in range(0, len(data), size):
        found += list(cutter.feed(data[at : at + size]))
    found += list(cutter.end())
    assert [each.fields for each in found if isinstance(each, Record)] == rows
    assert len(found) == len(rows)
