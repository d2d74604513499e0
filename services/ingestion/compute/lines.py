"""Records that lie in lines: a bad one costs itself alone and is named by its line."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from libs.contracts.answers import strict_json
from services.ingestion.compute.packed import Source

MAX_RECORD_BYTES = 1024 * 1024
KEPT_BYTES = 64 * 1024
"""What is kept of a record that is too long to hold; any other is kept whole."""
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
    """A record that cannot be read, and why; `raw` is all of it, of one too long to hold its first `KEPT_BYTES`."""

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
        return Fault(number, f"byte {error.start + 1} of the record is not UTF-8", raw=data)
    except RecursionError:
        return Fault(number, "not JSON that can be read: nested too deeply", raw=data)
    except ValueError as error:
        return Fault(number, f"not JSON: {error}"[:200], raw=data)
    if not isinstance(value, dict):
        return Fault(number, "not a JSON object", raw=data)
    return Record(number, value, data)


def numbered(source: Source) -> Iterator[tuple[int, bytes, bool]]:
    """Numbered lines; of one that is too long to hold only its beginning, and False."""
    number = 0
    while line := source.readline(MAX_RECORD_BYTES + 1):
        number += 1
        if len(line) <= MAX_RECORD_BYTES:
            yield number, line, True
            continue
        head = line[:KEPT_BYTES]
        while line and not line.endswith(b"\n"):
            line = source.readline(MAX_RECORD_BYTES)
        yield number, head, False
