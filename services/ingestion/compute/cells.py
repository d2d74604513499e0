"""Records of a CSV (RFC 4180): a quote opens a cell only where the cell begins; a broken one costs what it may hold."""

import csv
import re
from collections.abc import Iterator
from typing import NamedTuple

from libs.contracts.errors import InvalidInput
from services.ingestion.compute.lines import MAX_RECORD_BYTES, UTF8_BOM, Fault, Record, numbered
from services.ingestion.compute.packed import Source

MAX_RECORD_LINES = 2000
SURE = 3
"""Records in a row that look like ones, after which what comes is no longer taken for the text of a broken cell."""
_DELIMITERS = (b",", b";", b"\t")
_QUOTE = b'"'
_QUOTED = re.compile(rb'"[^"]*"')


def csv_records(source: Source, name: str) -> Iterator[Record | Fault]:
    """Rows under the header; cells are text as they stand, formulas included: nothing is ever evaluated.

    A record is as long as its quotes say, where they are CSV. Else it is one fault up to the line where its cell was
    opened, and on as long as the lines do not look like records: what may be the text of a cell is never a row.
    """
    lines = _Lines(source)
    header, style = _header(lines, name)
    while (found := _record(lines, style)) is not None:
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


class _Style(NamedTuple):
    """How records of the file are written; `width` is 0 while nobody knows it."""

    delimiter: bytes
    width: int = 0
    spaced: bool = False


class _Extent(NamedTuple):
    """Where the quotes of a record lead: its last line, why that is no end of it, and where its last cell was opened.

    Places count from the line where the record begins, which is 0. `stray` is a quote within a bare cell.
    """

    last: int
    opened: int
    wrong: str = ""
    stray: bool = False


class _Lines:
    """Lines that can be looked at before they are taken."""

    def __init__(self, source: Source) -> None:
        self._lines = numbered(source)
        self._held: list[_Line] = []
        self._at = 0
        self.followed = (0, 0, _Extent(0, 0))
        """Between which lines a quoted cell was found open at the end of each, and what came of it there."""

    def peek(self, ahead: int) -> _Line | None:
        """A line to come, 0 the next, without the mark that may begin a file; None after the end."""
        while len(self._held) - self._at <= ahead:
            number, data, whole = next(self._lines, (0, b"", True))
            if not number:
                return None
            self._held.append(_Line(number, data.removeprefix(UTF8_BOM) if number == 1 else data, whole))
        return self._held[self._at + ahead]

    def take(self, count: int) -> bytes:
        """So many of the lines to come, together."""
        taken = self._held[self._at : self._at + count]
        self._at += count
        if self._at > MAX_RECORD_LINES:
            del self._held[: self._at]
            self._at = 0
        return taken[0].data if count == 1 else b"".join([each.data for each in taken])

    def next_filled(self) -> _Line | None:
        """The next line that is not blank, after those before it are taken."""
        while (line := self.peek(0)) is not None and line.whole and line.data.isspace():
            self.take(1)
        return line


def _header(lines: _Lines, name: str) -> tuple[list[str], _Style]:
    # A cell may be longer than what the parser takes by itself, and is never longer than a record.
    csv.field_size_limit(MAX_RECORD_BYTES)
    first = lines.peek(0)
    if first is None:
        raise InvalidInput(f"{name}:1: the header cannot be read: no lines", field="file")
    bare = _QUOTED.sub(b"", first.data)
    delimiter = max(_DELIMITERS, key=bare.count)
    found = _record(lines, _Style(delimiter))
    if found is None or isinstance(found, Fault):
        told = "no lines" if found is None else found.reason
        raise InvalidInput(f"{name}:1: the header cannot be read: {told}", field="file")
    header = [column.strip() for column in found.cells]
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise InvalidInput(f"{name}:1: the header names the column {twice[0]!r} twice", field="file")
    return header, _Style(delimiter, len(header), any(column[:1] == " " for column in found.cells))


def _record(lines: _Lines, style: _Style) -> _Cells | Fault | None:
    """The next record that is not blank; None at the end."""
    first = lines.next_filled()
    if first is None:
        return None
    if not first.whole:
        return Fault(first.number, f"the line is longer than {MAX_RECORD_BYTES} bytes", raw=lines.take(1))
    extent = _extent(lines, 0, style.delimiter) if _QUOTE in first.data else _Extent(0, 0)
    if extent.wrong:
        return Fault(first.number, extent.wrong, raw=lines.take(_broken(lines, extent.opened + 1, style)))
    raw = lines.take(extent.last + 1)
    try:
        text, fault = raw.decode(), None
    except UnicodeDecodeError as error:
        text = raw.decode("latin-1")
        fault = Fault(first.number, f"byte {error.start + 1} of the record is not UTF-8", raw=raw)
    try:
        cells = _cells(text, style.delimiter)
    except (csv.Error, StopIteration) as error:
        return Fault(first.number, f"not CSV: {error}", raw=raw)
    return fault or _Cells(first.number, raw, cells)


def _cells(text: str, delimiter: bytes) -> list[str]:
    return next(csv.reader([text.rstrip("\r\n")], strict=True, delimiter=delimiter.decode()))


def _broken(lines: _Lines, sure: int, style: _Style) -> int:
    """Lines that a broken record may have, the first `sure` of them certainly."""
    count, at, run, size = sure, sure, 0, 0
    while run < SURE and at < MAX_RECORD_LINES and size <= MAX_RECORD_BYTES and style.width:
        line = lines.peek(at)
        if line is None or not line.whole:
            break
        size += len(line.data)
        if line.data.strip():
            length = _looks_like_one(lines, at, style)
            run = run + 1 if length else 0
            at += length or 1
            count = count if length else at
        else:
            at += 1
    return count


def _looks_like_one(lines: _Lines, at: int, style: _Style) -> int:
    """How many lines the record there has; 0 where it may as well be text: a line of prose or the end of a cell."""
    extent = _extent(lines, at, style.delimiter)
    if extent.wrong or extent.stray:
        return 0
    raw = b"".join([line.data for each in range(extent.last + 1) if (line := lines.peek(at + each)) is not None])
    try:
        cells = _cells(raw.decode("latin-1"), style.delimiter)
    except (csv.Error, StopIteration):
        return 0
    prose = not style.spaced and any(cell[:1] == " " for cell in cells)
    return 0 if prose or len(cells) != style.width else extent.last + 1


def _extent(lines: _Lines, at: int, delimiter: bytes) -> _Extent:
    """How far the record goes that begins so many lines ahead."""
    first = lines.peek(at)
    assert first is not None
    walk = _walk(first.data, delimiter)
    if walk.wrong or not walk.open:
        return _Extent(0, 0, walk.wrong, walk.stray)
    begin, end, found = lines.followed
    if begin <= first.number < end:
        # Where a cell leads that is open there is known: to follow it again for every line of a file in which each
        # opens one would take the square of their number.
        back = first.number - begin
        return found._replace(last=found.last - back, opened=max(0, found.opened - back))
    size, last, opened, stray = len(first.data), 0, 0, walk.stray
    while walk.open and not walk.wrong and last < MAX_RECORD_LINES and size <= MAX_RECORD_BYTES:
        line = lines.peek(at + last + 1)
        if line is None or not line.whole:
            break
        last, size = last + 1, size + len(line.data)
        walk = _walk(line.data, delimiter, open_=True)
        stray = stray or walk.stray
        opened = last if walk.fresh else opened
    wrong = walk.wrong or ("a quote is opened and never closed" if walk.open else "")
    found = _Extent(last, opened, wrong, stray)
    lines.followed = (first.number, first.number + last, found)
    return found


class _Walk(NamedTuple):
    """What the quotes of a line do.

    Whether a cell is open after it, what is wrong, whether a quote stands in a bare cell, and whether the last quoted
    cell begins in it.
    """

    open: bool
    wrong: str = ""
    stray: bool = False
    fresh: bool = False


def _walk(line: bytes, delimiter: bytes, *, open_: bool = False) -> _Walk:
    """Follow the quotes of a line, given whether a quoted cell was open at its beginning."""
    if _QUOTE not in line:
        return _Walk(open_)
    at, stray, fresh = 0, False, False
    if not open_ and line.startswith(_QUOTE):
        open_, at, fresh = True, 1, True
    while True:
        if open_:
            at = line.find(_QUOTE, at) + 1
            if at == 0:
                return _Walk(True, "", stray, fresh)
            after = line[at : at + 1]
            if after == _QUOTE:
                at += 1
            elif after in (delimiter, b"\r", b"\n", b""):
                open_ = False
            else:
                return _Walk(False, "not CSV: a quoted cell ends and goes on", stray, fresh)
        else:
            begins = line.find(delimiter + _QUOTE, at)
            stray = stray or line.find(_QUOTE, at, begins + 1 if begins >= 0 else len(line)) >= 0
            if begins < 0:
                return _Walk(False, "", stray, fresh)
            open_, at, fresh = True, begins + 2, True
