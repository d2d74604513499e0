"""Reads imported files record by record in bounded memory; what cannot be read is named by its line."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from libs.contracts.errors import InvalidInput

FORMATS = ("jsonl", "csv")
MAX_RECORD_BYTES = 1024 * 1024
MAX_RECORD_LINES = 2000
_UTF8_BOM = b"\xef\xbb\xbf"
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")
_GZIP = b"\x1f\x8b"
_HEAD_BYTES = 65_536
_SNIFF_RECORDS = 200


@dataclass(frozen=True, slots=True)
class Record:
    """Fields of one record; `number` is the 1-based line where it begins."""

    number: int
    fields: dict[str, object]


@dataclass(frozen=True, slots=True)
class Fault:
    """A record that cannot be read, and why."""

    number: int
    reason: str
    field: str = ""


def detect(path: Path, name: str, wanted: str = "") -> str:
    """The format as asked, else by the name, else by the first bytes; InvalidInput says what is wrong with the file."""
    if wanted and wanted not in FORMATS:
        raise InvalidInput(f"format {wanted!r} is not one of {', '.join(FORMATS)}", field="format")
    with _open(path) as file:
        head = _guard(file.read, _HEAD_BYTES)
    if head.startswith(_WIDE_BOMS):
        raise InvalidInput(f"{name} is UTF-16; save it as UTF-8", field="file")
    first = head.removeprefix(_UTF8_BOM).lstrip()
    if not first:
        raise InvalidInput(f"{name} is empty", field="file")
    if b"\x00" in head[:1024]:
        raise InvalidInput(f"{name} is a binary file, neither JSONL nor CSV", field="file")
    base = name.lower().removesuffix(".gz")
    by_name = (
        "jsonl" if base.endswith((".jsonl", ".ndjson", ".json")) else "csv" if base.endswith((".csv", ".tsv")) else ""
    )
    chosen = wanted or by_name or ("jsonl" if first[:1] == b"{" else "csv")
    if chosen == "jsonl" and first[:1] == b"[":
        raise InvalidInput(f"{name} is one JSON array; write one object per line (JSONL)", field="file")
    return chosen


def columns_of(path: Path, name: str, format: str) -> list[str]:  # noqa: A002 - the word of the domain
    """Columns the file has: the header of a CSV, the keys of the first readable JSONL records."""
    if format == "csv":
        with _open(path) as file:
            return _header(_csv_texts(file), name)[0]
    found: dict[str, None] = {}
    for at, record in enumerate(read(path, name, format)):
        if at >= _SNIFF_RECORDS:
            break
        if isinstance(record, Record):
            found |= dict.fromkeys(record.fields)
    return list(found)


def read(path: Path, name: str, format: str) -> Iterator[Record | Fault]:  # noqa: A002
    """Every record of the file, in order; blank lines are no records. InvalidInput when the file ends in mid-stream."""
    with _open(path) as file:
        yield from _jsonl(file) if format == "jsonl" else _csv(file, name)


def _jsonl(file: IO[bytes]) -> Iterator[Record | Fault]:
    for number, line in _lines(file):
        if line is None:
            yield Fault(number, f"the line is longer than {MAX_RECORD_BYTES} bytes")
        elif not line.strip():
            continue
        else:
            yield _json_record(number, line.removeprefix(_UTF8_BOM))


def _json_record(number: int, line: bytes) -> Record | Fault:
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Fault(number, f"not JSON: {error}"[:200])
    if not isinstance(value, dict):
        return Fault(number, "not a JSON object")
    return Record(number, value)


def _csv(file: IO[bytes], name: str) -> Iterator[Record | Fault]:
    texts = _csv_texts(file)
    header, delimiter = _header(texts, name)
    for number, text in texts:
        if isinstance(text, Fault):
            yield text
            continue
        try:
            values = next(csv.reader([text], strict=True, delimiter=delimiter))
        except (csv.Error, StopIteration) as error:
            yield Fault(number, f"not CSV: {error}")
            continue
        if len(values) != len(header):
            yield Fault(number, f"{len(values)} fields where the header names {len(header)}")
            continue
        yield Record(number, dict(zip(header, values, strict=True)))


def _header(texts: Iterator[tuple[int, str | Fault]], name: str) -> tuple[list[str], str]:
    _, text = next(texts, (0, ""))
    if isinstance(text, Fault) or not text:
        raise InvalidInput(f"{name}:1: the header cannot be read: {text.reason if text else 'no lines'}", field="file")
    delimiter = max(",;\t", key=text.count)
    try:
        header = next(csv.reader([text], strict=True, delimiter=delimiter))
    except (csv.Error, StopIteration) as error:
        raise InvalidInput(f"{name}:1: the header is not CSV: {error}", field="file") from error
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise InvalidInput(f"{name}:1: the header names the column {twice[0]!r} twice", field="file")
    return [column.strip() for column in header], delimiter


def _csv_texts(file: IO[bytes]) -> Iterator[tuple[int, str | Fault]]:
    """Records as text. A quote that is never closed costs its own line, not the rest of the file."""
    waiting: list[tuple[int, bytes | None]] = []
    lines = _lines(file)
    while True:
        number, line = waiting.pop(0) if waiting else next(lines, (0, b""))
        if number == 0:
            return
        if line is None:
            yield number, Fault(number, f"the line is longer than {MAX_RECORD_BYTES} bytes")
            continue
        if not line.strip():
            continue
        parts, size, quotes = [line], len(line), line.count(b'"')
        taken: list[tuple[int, bytes | None]] = []
        while quotes % 2:
            more = waiting.pop(0) if waiting else next(lines, None)
            if more is not None:
                taken.append(more)
            if more is None or more[1] is None or len(taken) >= MAX_RECORD_LINES or size > MAX_RECORD_BYTES:
                break
            parts.append(more[1])
            size, quotes = size + len(more[1]), quotes + more[1].count(b'"')
        if quotes % 2:
            waiting = taken + waiting
            yield number, Fault(number, "a quote is opened and never closed")
            continue
        yield number, _text(number, b"".join(parts))


def _text(number: int, record: bytes) -> str | Fault:
    data = record.removeprefix(_UTF8_BOM) if number == 1 else record
    try:
        return data.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        return Fault(number, f"byte {error.start + 1} of the record is not UTF-8")


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Numbered lines; None for one that is too long to hold."""
    number = 0
    while line := _guard(file.readline, MAX_RECORD_BYTES + 1):
        number += 1
        if len(line) <= MAX_RECORD_BYTES:
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = _guard(file.readline, MAX_RECORD_BYTES)
        yield number, None


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as raw:
        packed = raw.read(2) == _GZIP
        raw.seek(0)
        yield io.BufferedReader(gzip.GzipFile(fileobj=raw)) if packed else raw


def _guard(read: object, size: int) -> bytes:
    try:
        return read(size)  # type: ignore[operator, no-any-return]
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InvalidInput(f"the compressed file is damaged: {error}", field="file") from error
