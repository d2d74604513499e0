"""Reads imported files record by record in bounded memory; what cannot be read is named by its line."""

import codecs
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from libs.contracts.errors import InvalidInput
from services.ingestion.compute import tables
from services.ingestion.compute.arrays import array
from services.ingestion.compute.cells import csv_columns, csv_records
from services.ingestion.compute.lines import UTF8_BOM, Fault, Record, jsonl
from services.ingestion.compute.packed import opened, packing

__all__ = ["FORMATS", "Fault", "Record", "detect", "look", "read"]

JSONL, JSON, CSV, PARQUET = "jsonl", "json", "csv", "parquet"
FORMATS = (JSONL, JSON, CSV, PARQUET)
SAMPLE_RECORDS = 200
_SUFFIXES = {".jsonl": JSONL, ".ndjson": JSONL, ".json": JSON, ".csv": CSV, ".tsv": CSV, ".parquet": PARQUET}
_PACKED = (".gz", ".gzip", ".zst", ".zstd")
_HEAD_BYTES = 65_536
_WIDE_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_ARCHIVES = {b"PK\x03\x04": "a zip archive or an Excel workbook", b"7z\xbc\xaf": "a 7z archive", b"BZh": "bzip2",
             b"\xfd7zXZ": "xz"}  # fmt: skip
_BINARY_SHARE = 0.02
_FEW_CONTROLS = 1
"""A stray control character costs its row, not the file."""

Where = Callable[[], float]
"""How much of the file was read, 0 to 1."""


def detect(path: Path, name: str, wanted: str = "") -> str:
    """The format as asked, else by the first bytes, with the name's word where they leave it open.

    InvalidInput says what is wrong with the file.
    """
    if wanted and wanted not in FORMATS:
        raise InvalidInput(f"format {wanted!r} is not one of {', '.join(FORMATS)}", field="format")
    with opened(path) as source:
        head = source.read(_HEAD_BYTES)
    if head.startswith(tables.MAGIC):
        if packing(path):
            raise InvalidInput(f"{name} is Parquet inside a packed file; Parquet packs itself: unpack it", field="file")
        return PARQUET
    first = _text_begins(head, name)
    by_name = next((kind for suffix, kind in _SUFFIXES.items() if _bare(name).endswith(suffix)), "")
    by_content = JSON if first[:1] == b"[" else JSONL if first[:1] == b"{" else CSV
    # What the bytes say stands above a wrong extension; a CSV may begin with anything.
    chosen = wanted or (CSV if by_name == CSV else by_content)
    if chosen == PARQUET or (not wanted and by_name == PARQUET):
        raise InvalidInput(f"{name} is not Parquet: it begins with {first[:20]!r}", field="file")
    if chosen == JSON and by_content == JSONL:
        chosen = JSONL
    if chosen == JSONL and by_content == JSON:
        chosen = JSON
    if chosen in (JSON, JSONL) and by_content == CSV:
        raise InvalidInput(f"{name} holds neither a JSON array nor JSON objects: it begins with {first[:20]!r}")
    if chosen == JSONL and _spread_out(first):
        raise InvalidInput(
            f"{name} is one JSON object over several lines; a list of records or one object per line is read",
            field="file",
        )
    return chosen


def look(path: Path, name: str, format: str) -> tuple[list[str], list[Record]]:  # noqa: A002 - the word of the domain
    """Columns the file has (the header of a CSV, the keys of the first readable records) and its first records."""
    first = list(islice(read(path, name, format), SAMPLE_RECORDS))
    sample = [each for each in first if isinstance(each, Record)]
    if first and not sample:
        told = next(f"row {each.number}: {each.reason}" for each in first if isinstance(each, Fault))
        raise InvalidInput(f"{name}: none of the first {len(first)} records can be read. First: {told}", field="file")
    if format == PARQUET:
        return tables.columns(path, name), sample
    if format == CSV:
        with opened(path) as source:
            return csv_columns(source, name), sample
    found: dict[str, None] = {}
    for record in sample:
        found |= dict.fromkeys(record.fields)
    return list(found), sample


def read(
    path: Path,
    name: str,
    format: str,  # noqa: A002
    follow: Callable[[Where], None] = lambda _: None,
) -> Iterator[Record | Fault]:
    """Every record of the file, in order. `follow` is given a function that tells how far reading has come.

    InvalidInput when the file ends in mid-stream.
    """
    if format == PARQUET:
        total, done = max(tables.fractions(path, name), 1), 0
        follow(lambda: done / total)
        for row in tables.rows(path, name):
            done += 1
            yield row
        return
    with opened(path) as source:
        follow(source.fraction)
        if format == CSV:
            yield from csv_records(source, name)
        else:
            yield from array(source, name) if format == JSON else jsonl(source)


def _bare(name: str) -> str:
    lower = name.lower()
    return next((lower.removesuffix(each) for each in _PACKED if lower.endswith(each)), lower)


def _text_begins(head: bytes, name: str) -> bytes:
    """The head without mark and leading space; InvalidInput when it is not text."""
    if head.startswith(_WIDE_BOMS):
        raise InvalidInput(f"{name} is UTF-16; save it as UTF-8", field="file")
    archive = next((what for magic, what in _ARCHIVES.items() if head.startswith(magic)), None)
    if archive is not None:
        raise InvalidInput(f"{name} is {archive}; unpack it, or pack it with gzip or zstd", field="file")
    first = head.removeprefix(UTF8_BOM).lstrip()
    if not first:
        raise InvalidInput(f"{name} is empty", field="file")
    controls = sum(head[:4096].count(byte) for byte in range(32) if byte not in (9, 10, 12, 13))
    if controls > max(_FEW_CONTROLS, _BINARY_SHARE * min(len(head), 4096)):
        raise InvalidInput(f"{name} is a binary file, neither JSON, CSV nor Parquet", field="file")
    return first


def _spread_out(first: bytes) -> bool:
    """Whether an object opened on the first line goes on in indented lines."""
    line, _, rest = first.partition(b"\n")
    return line.strip() == b"{" or (line.count(b"{") > line.count(b"}") and rest[:1] in (b" ", b"\t") and b'"' in rest)
