"""A file as rows and faults, a segment's worth at a time, bounded in records and in bytes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from services.ingestion.compute import files
from services.ingestion.compute.lines import Fault, Record
from services.ingestion.compute.tables import written
from services.ingestion.domain.columns import Columns
from services.ingestion.domain.faults import BadRowError
from services.ingestion.domain.records import Origin, row_of
from services.ingestion.domain.rows import Row

MAX_PART_BYTES = 24 * 1024**2


@dataclass(frozen=True, slots=True)
class Part:
    """Some records: the rows they became, those that became none, and how many were read."""

    rows: list[Row]
    faults: list[Fault]
    read: int


class Reading:
    """Reads a spooled file part by part; blocking, so in a thread."""

    def __init__(self, path: Path, name: str, format: str, columns: Columns, origin: Origin, size: int) -> None:  # noqa: A002
        self._columns = columns
        self._origin = origin
        self._size = size
        self._where: files.Where = lambda: 0.0
        self._records: Iterator[Record | Fault] = files.read(path, name, format, self._follow)

    def fraction(self) -> float:
        """How much of the file was read, 0 to 1."""
        return self._where()

    def next(self) -> Part:
        """The next part; nothing read means the end. Raises InvalidInput when the file ends in mid-stream."""
        rows: list[Row] = []
        faults: list[Fault] = []
        read = held = 0
        while read < self._size and held < MAX_PART_BYTES:
            record = next(self._records, None)
            if record is None:
                break
            read += 1
            held += len(record.raw)
            if isinstance(record, Fault):
                faults.append(record)
                continue
            held += record.weight
            try:
                rows.append(row_of(record.fields, record.number, self._columns, self._origin))
            except BadRowError as error:
                faults.append(_fault(record, error.reason, error.field))
            except RecursionError:
                faults.append(_fault(record, "nested too deeply"))
            except (TypeError, ValueError, OverflowError) as error:
                # Whatever a value is that nobody foresaw, it costs its row and not the file.
                faults.append(_fault(record, f"cannot be read: {error}"[:200]))
        return Part(rows, faults, read)

    def _follow(self, where: files.Where) -> None:
        self._where = where


def _fault(record: Record, reason: str, field: str = "") -> Fault:
    return Fault(record.number, reason, field, record.raw or written(record.fields))
