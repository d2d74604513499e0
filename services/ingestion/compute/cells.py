"""Records of a CSV (RFC 4180): a quote opens a cell only where the cell begins, and one never closed costs its line."""

import csv
import re
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from libs.contracts.errors import InvalidInput
from services.ingestion.compute.lines import MAX_RECORD_BYTES, UTF8_BOM, Fault, Record, numbered
from services.ingestion.compute.packed import Source

MAX_RECORD_LINES = 2000
_DELIMITERS = (b",", b";", b"\t")
_QUOTE = b'"'
_QUOTED = re.compile(rb'"[^"]*"')


def csv_records(source: Source, name: str) -> Iterator[Record | Fault]:
    """Rows under the header; cells are text as they stand, formulas included: nothing is ever evaluated.

    A record is as long as its quotes say, where they are CSV; else its first line alone is a fault, and reading goes on
    with the next line.
    """
    lines = _Lines(source)
    header, delimiter = _header(lines, name)
    while (found := _record(lines, delimiter)) is not None:
        if isinstance(found, Fault):
            yield found
        elif len(found.cells) != len(header):
            reason = f"{len(found.cells)} fields where the header names {len(header)}"
            yield Fault(found.number, reason, raw=found.raw)
        else:
            yield Record(found.number, dict(zip(header, found.cells, strict=True)), found.raw)


def csv_columns(source: Source, name: str) -> list[str]:
    """The columns that the header names; InvalidInput when the first line is no header."""
    return _header(_Lines(source), name)[0]


class _Line(NamedTuple):
    number: int
    data: bytes
    whole: bool


class _Cells(NamedTuple):
    number: int
    raw: bytes
    cells: list[str]


class _Lines:
    """Lines that can be given back."""

    def __init__(self, source: Source) -> None:
        self._lines = numbered(source)
        self._waiting: deque[_Line] = deque()

    def take(self) -> _Line | None:
        """The next line, without the mark that may begin a file; None at the end."""
        if self._waiting:
            return self._waiting.popleft()
        number, data, whole = next(self._lines, (0, b"", True))
        return _Line(number, data.removeprefix(UTF8_BOM) if number == 1 else data, whole) if number else None

    def back(self, *lines: _Line) -> None:
        """Take these next, in order."""
        self._waiting.extendleft(reversed(lines))


def _header(lines: _Lines, name: str) -> tuple[list[str], bytes]:
    # A cell may be longer than what the parser takes by itself, and is never longer than a record.
    csv.field_size_limit(MAX_RECORD_BYTES)
    first = lines.take()
    if first is None:
        raise InvalidInput(f"{name}:1: the header cannot be read: no lines", field="file")
    bare = _QUOTED.sub(b"", first.data)
    delimiter = max(_DELIMITERS, key=bare.count)
    lines.back(first)
    found = _record(lines, delimiter)
    if found is None or isinstance(found, Fault):
        told = "no lines" if found is None else found.reason
        raise InvalidInput(f"{name}:1: the header cannot be read: {told}", field="file")
    header = [column.strip() for column in found.cells]
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise InvalidInput(f"{name}:1: the header names the column {twice[0]!r} twice", field="file")
    return header, delimiter


def _record(lines: _Lines, delimiter: bytes) -> _Cells | Fault | None:
    """The next record that is not blank; None at the end."""
    first = lines.take()
    while first is not None and first.whole and not first.data.strip():
        first = lines.take()
    if first is None:
        return None
    number, line, whole = first
    if not whole:
        return Fault(number, f"the line is longer than {MAX_RECORD_BYTES} bytes", raw=line)
    parts, size, opened = [line], len(line), _left_open(line, delimiter)
    taken: list[_Line] = []
    while opened and len(taken) < MAX_RECORD_LINES and size <= MAX_RECORD_BYTES and (more := lines.take()) is not None:
        taken.append(more)
        if not more.whole:
            break
        parts.append(more.data)
        size, opened = size + len(more.data), _left_open(more.data, delimiter, opened=True)
    if opened:
        lines.back(*taken)
        return Fault(number, "a quote is opened and never closed", raw=line)
    raw = b"".join(parts)
    try:
        text, fault = raw.decode(), None
    except UnicodeDecodeError as error:
        text = raw.decode("latin-1")
        fault = Fault(number, f"byte {error.start + 1} of the record is not UTF-8", raw=raw)
    try:
        cells = next(csv.reader([text.rstrip("\r\n")], strict=True, delimiter=delimiter.decode()))
    except (csv.Error, StopIteration) as error:
        # Whatever the quote took with it, it was not its own.
        lines.back(*taken)
        return Fault(number, f"not CSV: {error}", raw=line)
    return fault or _Cells(number, raw, cells)


def _left_open(line: bytes, delimiter: bytes, *, opened: bool = False) -> bool:
    """Whether a quoted cell is open at the end of the line, given whether one was at its beginning."""
    if _QUOTE not in line:
        return opened
    at = 0
    if not opened and line.startswith(_QUOTE):
        opened, at = True, 1
    while True:
        if opened:
            at = line.find(_QUOTE, at) + 1
            if at == 0:
                return True
            if line[at : at + 1] == _QUOTE:
                at += 1
            else:
                opened = False
        else:
            at = line.find(delimiter + _QUOTE, at) + 2
            if at == 1:
                return False
            opened = True
