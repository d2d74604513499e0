"""Elements of one JSON array, cut out as they come: the array is never held as a whole."""

import re
from collections.abc import Iterator

from libs.contracts.errors import InvalidInput
from services.ingestion.compute.lines import KEPT_BYTES, MAX_RECORD_BYTES, UTF8_BOM, Fault, Record, json_record
from services.ingestion.compute.packed import Source

_CHUNK = 256 * 1024
_OUTSIDE = re.compile(rb'["{}\[\],]')
_INSIDE = re.compile(rb'["\\]')
_OPEN, _QUOTE, _COMMA, _ESCAPE = b"{[", b'"', b",", b"\\"


def array(source: Source, name: str) -> Iterator[Record | Fault]:
    """Records of a JSON array, numbered from 1; one that is no object or too large costs itself alone.

    InvalidInput where elements can no longer be told apart: the array ends early, or closes what was never opened.
    """
    cutter = _Cutter(name)
    while data := source.read(_CHUNK):
        yield from cutter.feed(data)
    yield from cutter.end()


class _Cutter:
    """Follows brackets and strings through chunks, and keeps no more than one element."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._depth = 0
        self._in_string = False
        self._skip = 0
        self._element = bytearray()
        self._too_long = False
        self._number = 0
        self._after_comma = False
        self._first = True

    def feed(self, data: bytes) -> Iterator[Record | Fault]:
        """The records that end in this chunk."""
        if self._first:
            data, self._first = data.removeprefix(UTF8_BOM), False
        at, kept = self._skip, 0
        while True:
            found = (_INSIDE if self._in_string else _OUTSIDE).search(data, at)
            if found is None:
                break
            at, mark = found.end(), found[0]
            if self._in_string:
                if mark == _ESCAPE:
                    at += 1
                else:
                    self._in_string = False
            elif mark == _QUOTE:
                self._in_string = True
            elif mark in _OPEN:
                self._depth += 1
                if self._depth == 1:
                    kept = at
            elif self._ends_element(mark):
                self._keep(data[kept : at - 1])
                kept = at
                yield from self._cut(last=mark != _COMMA)
        # An escape at the very end takes the first byte of the next chunk with it.
        self._skip = max(0, at - len(data))
        self._keep(data[kept:])
        if self._depth == 0 and self._number == 0 and self._element.strip():
            raise InvalidInput(f"{self._name} is not a JSON array of records", field="file")

    def end(self) -> Iterator[Record | Fault]:
        """What follows the array, if anything does."""
        if self._depth or self._in_string:
            raise InvalidInput(
                f"{self._name}: element {self._number + 1} is never closed; the file is cut off or lacks a bracket",
                reason="ARRAY_CUT_OFF",
                field="file",
            )
        rest = bytes(self._element).strip()
        if rest:
            yield Fault(self._number + 1, "stands after the end of the array", raw=rest)

    def _ends_element(self, mark: bytes) -> bool:
        if mark == _COMMA:
            return self._depth == 1
        if self._depth == 0:
            raise InvalidInput(f"{self._name}: after element {self._number} more is closed than was opened")
        self._depth -= 1
        return self._depth == 0

    def _keep(self, data: bytes) -> None:
        if self._too_long:
            return
        self._element += data
        if len(self._element) > MAX_RECORD_BYTES:
            del self._element[KEPT_BYTES:]
            self._too_long = True

    def _cut(self, *, last: bool) -> Iterator[Record | Fault]:
        element, too_long = bytes(self._element), self._too_long
        self._element.clear()
        self._too_long = False
        if last and not element.strip() and not self._after_comma:
            return
        self._after_comma = not last
        self._number += 1
        if too_long:
            yield Fault(self._number, f"the element is longer than {MAX_RECORD_BYTES} bytes", raw=element)
        else:
            yield json_record(self._number, element.strip())
