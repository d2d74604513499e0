"""Rows of a Parquet file in small batches; its size in memory does not depend on the file's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from libs.contracts.errors import InvalidInput
from services.ingestion.compute.lines import MAX_RECORD_BYTES, Fault, Record

MAGIC = b"PAR1"
_ROWS = 512
_MAX_COLUMN_BYTES = 2 * 1024**3
_MAX_COLUMNS = 2000


def columns(path: Path, name: str) -> list[str]:
    """The columns of the file; InvalidInput when it is not Parquet that can be read."""
    with _opened(path, name) as file:
        return [str(each) for each in file.schema_arrow.names]


def rows(path: Path, name: str) -> Iterator[Record | Fault]:
    """Every row, numbered from 1. Nested values come as lists and objects, times as aware datetimes."""
    with _opened(path, name) as file:
        number = 0
        try:
            for batch in file.iter_batches(batch_size=_ROWS):
                for fields in _rows(batch):
                    number += 1
                    yield _record(number, fields)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise InvalidInput(
                f"{name}: after row {number} the file is damaged: {_line(error)}", field="file"
            ) from error


def fractions(path: Path, name: str) -> int:
    """How many rows the file says it has."""
    with _opened(path, name) as file:
        return int(file.metadata.num_rows)


def _rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    try:
        return batch.to_pylist()  # type: ignore[no-any-return]
    except UnicodeDecodeError:
        # One string that is not UTF-8 must cost its own row alone.
        return [_one(batch.slice(at, 1)) for at in range(batch.num_rows)]


def _one(row: pa.RecordBatch) -> dict[str, Any]:
    try:
        return row.to_pylist()[0]  # type: ignore[no-any-return]
    except UnicodeDecodeError as error:
        return {"": f"holds text that is not UTF-8 ({error.reason})"}


def _record(number: int, fields: dict[str, Any]) -> Record | Fault:
    if "" in fields and len(fields) == 1:
        return Fault(number, str(fields[""]))
    long = next((name for name, value in fields.items() if _length(value) > MAX_RECORD_BYTES), None)
    if long is not None:
        return Fault(number, f"holds more than {MAX_RECORD_BYTES} bytes", long)
    return Record(number, {name: _plain(value) for name, value in fields.items()})


def _plain(value: Any) -> Any:
    """Values as JSON would give them; keys that a struct type adds to every row are left out where they are null."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _length(value: Any) -> int:
    return len(value) if isinstance(value, (str, bytes)) else 0


def _opened(path: Path, name: str) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path, memory_map=False, pre_buffer=False, buffer_size=1024 * 1024)
    except (pa.ArrowException, OSError) as error:
        raise InvalidInput(f"{name} is not a Parquet file that can be read: {_line(error)}", field="file") from error
    metadata = file.metadata
    if metadata.num_columns > _MAX_COLUMNS:
        raise InvalidInput(f"{name} has {metadata.num_columns} columns, more than {_MAX_COLUMNS}", field="file")
    for group in range(metadata.num_row_groups):
        for at in range(metadata.num_columns):
            column = metadata.row_group(group).column(at)
            if column.total_uncompressed_size > _MAX_COLUMN_BYTES:
                raise InvalidInput(
                    f"{name}: column {column.path_in_schema!r} of row group {group} unpacks to "
                    f"{column.total_uncompressed_size} bytes, more than {_MAX_COLUMN_BYTES}: write smaller row groups",
                    reason="COMPRESSION_BOMB",
                    field="file",
                )
    return file


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
