"""Records that lie in lines, JSONL and CSV: a bad one costs itself alone and is named by its line."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from libs.contracts.answers import strict_json
from libs.contracts.errors import InvalidInput
from services.ingestion.compute.packed import Source

MAX_RECORD_BYTES = 1024 * 1024
MAX_RECORD_LINES = 2000
SHOWN_RAW_BYTES = 64 * 1024
"""What a quarantined record keeps of itself."""
UTF8_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Record:
    """Fields of one record; `number` is the 1-based line or element where it begins, `raw` its bytes as they lay.

    `weight` is about how many bytes it holds, where it did not lie in bytes of its own.
    """

    number: int
    fields: dict[str, Any]
    raw: bytes = b""
    weight: int = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """A record that cannot be read, and why; `raw` is what there is of it, cut at `SHOWN_RAW_BYTES`."""

    number: int
    reason: str
    field: str = ""
    raw: bytes = b""


def jsonl(source: Source) -> Iterator[Record | Fault]:
    """One JSON object a line; blank lines are no records."""
    for number, line, whole in numbered(source):
        if not whole:
            yield Fault(number, f"the line is longer than {MAX_RECORD_BYTES} bytes", raw=line)
        elif line.strip():
            yield json_record(number, line.removeprefix(UTF8_BOM) if number == 1 else line)


def json_record(number: int, data: bytes) -> Record | Fault:
    """A record from the bytes of one JSON object: strict, without doubled keys, NaN or Infinity."""
    try:
        value = strict_json(data.decode())
    except UnicodeDecodeError as error:
        return Fault(number, f"byte {error.start + 1} of the record is not UTF-8", raw=data[:SHOWN_RAW_BYTES])
    except RecursionError:
        return Fault(number, "not JSON that can be read: nested too deeply", raw=data[:SHOWN_RAW_BYTES])
    except ValueError as error:
        return Fault(number, f"not JSON: {error}"[:200], raw=data[:SHOWN_RAW_BYTES])
    if not isinstance(value, dict):
        return Fault(number, "not a JSON object", raw=data[:SHOWN_RAW_BYTES])
    return Record(number, value, data)


def csv_records(source: Source, name: str) -> Iterator[Record | Fault]:
    """Rows under the header; cells are text as they stand, formulas included: nothing is ever evaluated."""
    texts = csv_texts(source)
    header, delimiter = csv_header(texts, name)
    for number, text in texts:
        if isinstance(text, Fault):
            yield text
            continue
        raw = text.encode()
        try:
            values = next(csv.reader([text], strict=True, delimiter=delimiter))
        except (csv.Error, StopIteration) as error:
            yield Fault(number, f"not CSV: {error}", raw=raw[:SHOWN_RAW_BYTES])
            continue
        if len(values) != len(header):
            reason = f"{len(values)} fields where the header names {len(header)}"
            yield Fault(number, reason, raw=raw[:SHOWN_RAW_BYTES])
            continue
        yield Record(number, dict(zip(header, values, strict=True)), raw)


def csv_header(texts: Iterator[tuple[int, str | Fault]], name: str) -> tuple[list[str], str]:
    """Columns and delimiter; InvalidInput when the first line is no header."""
    _, text = next(texts, (0, ""))
    if isinstance(text, Fault) or not text:
        raise InvalidInput(f"{name}:1: the header cannot be read: {text.reason if text else 'no lines'}", field="file")
    delimiter = max(",;\t", key=text.count)
    try:
        header = next(csv.reader([text], strict=True, delimiter=delimiter))
    except (csv.Error, StopIteration) as error:
        raise InvalidInput(f"{name}:1: the header is not CSV: {error}", field="file") from error
    header = [column.strip() for column in header]
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise InvalidInput(f"{name}:1: the header names the column {twice[0]!r} twice", field="file")
    return header, delimiter


def csv_texts(source: Source) -> Iterator[tuple[int, str | Fault]]:
    """Records as text. A quote that is never closed costs its own line, not the rest of the file."""
    waiting: list[tuple[int, bytes, bool]] = []
    lines = numbered(source)
    while True:
        number, line, whole = waiting.pop(0) if waiting else next(lines, (0, b"", True))
        if number == 0:
            return
        if not whole:
            yield number, Fault(number, f"the line is longer than {MAX_RECORD_BYTES} bytes", raw=line)
            continue
        if not line.strip():
            continue
        parts, size, quotes = [line], len(line), line.count(b'"')
        taken: list[tuple[int, bytes, bool]] = []
        while quotes % 2:
            more = waiting.pop(0) if waiting else next(lines, None)
            if more is not None:
                taken.append(more)
            if more is None or not more[2] or len(taken) >= MAX_RECORD_LINES or size > MAX_RECORD_BYTES:
                break
            parts.append(more[1])
            size, quotes = size + len(more[1]), quotes + more[1].count(b'"')
        if quotes % 2:
            waiting = taken + waiting
            yield number, Fault(number, "a quote is opened and never closed", raw=line[:SHOWN_RAW_BYTES])
            continue
        yield number, _text(number, b"".join(parts))


def numbered(source: Source) -> Iterator[tuple[int, bytes, bool]]:
    """Numbered lines; of one that is too long to hold only its beginning, and False."""
    number = 0
    while line := source.readline(MAX_RECORD_BYTES + 1):
        number += 1
        if len(line) <= MAX_RECORD_BYTES:
            yield number, line, True
            continue
        head = line[:SHOWN_RAW_BYTES]
        while line and not line.endswith(b"\n"):
            line = source.readline(MAX_RECORD_BYTES)
        yield number, head, False


def _text(number: int, record: bytes) -> str | Fault:
    data = record.removeprefix(UTF8_BOM) if number == 1 else record
    try:
        return data.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        reason = f"byte {error.start + 1} of the record is not UTF-8"
        return Fault(number, reason, raw=record[:SHOWN_RAW_BYTES])
