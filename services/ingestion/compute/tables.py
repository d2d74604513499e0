"""Rows of a Parquet file in small batches; its size in memory does not depend on the file's."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from libs.contracts.errors import InvalidInput
from services.ingestion.compute import dictionaries
from services.ingestion.compute.lines import KEPT_BYTES, MAX_RECORD_BYTES, Fault, Record

MAGIC = b"PAR1"
_ROWS = 512
_MAPS: Literal["strict"] = "strict"
"""A map is an object; one that has a key twice is none."""
_MAX_GROUP_BYTES = 1024**3
"""Of the columns of a row group: as much is held where each has one page."""
_MAX_DICTIONARY_BYTES = 16 * 1024**2
_MAX_WRITTEN_OUT_BYTES = 64 * 1024**2
"""Of the values of dictionaries that are written out at a time."""
_MAX_HELD_BYTES = 256 * 1024**2
"""Of columns of a row group that are read as dictionaries: all their values are held, some four times over."""
_MAX_COLUMNS = 2000
_MAX_VALUES = 32 * 1024**2
"""Values of a nested column in one row group: a run of equal ones takes no bytes in the file, and all of them here."""
_MAX_PIECE_BYTES = 16 * 1024**2
"""Of rows turned into objects at a time, and of any one row."""
_MAX_FIXED_BYTES = 4096


def columns(path: Path, name: str) -> list[str]:
    """The columns of the file; InvalidInput when it is not Parquet that can be read."""
    with _opened(path, name)[0] as file:
        return [str(each) for each in file.schema_arrow.names]


def rows(path: Path, name: str) -> Iterator[Record | Fault]:
    """Every row, numbered from 1. Nested values come as lists and objects, times as aware datetimes."""
    file, size = _opened(path, name)
    with file:
        number = 0
        written_out = pa.schema([field.with_type(_written_out(field.type)) for field in file.schema_arrow])
        try:
            for batch in file.iter_batches(batch_size=size):
                for piece in _pieces(batch):
                    if piece is None:
                        number += 1
                        yield Fault(number, f"holds more than {_MAX_PIECE_BYTES} bytes")
                        continue
                    weight = _weight_of(piece) // piece.num_rows
                    # Unsafe: what is finer than a microsecond is cut off.
                    for fields in _rows(piece.cast(written_out, safe=False)):
                        number += 1
                        yield _record(number, fields, weight)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise InvalidInput(
                f"{name}: after row {number} the file is damaged: {_line(error)}", field="file"
            ) from error


def written(fields: dict[str, Any]) -> bytes:
    """A row as a quarantine keeps it: one JSON object, of a value too long to hold its first `KEPT_BYTES`."""
    kept = {name: value[:KEPT_BYTES] if _length(value) > MAX_RECORD_BYTES else value for name, value in fields.items()}
    return json.dumps(_plain(kept), ensure_ascii=False, default=_shown).encode("utf-8", "backslashreplace")


def fractions(path: Path, name: str) -> int:
    """How many rows the file says it has."""
    with _opened(path, name)[0] as file:
        return int(file.metadata.num_rows)


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch | None]:
    """The batch in parts that are small enough to hold as objects; None stands for a row that alone is not."""
    if _weight_of(batch) <= _MAX_PIECE_BYTES:
        yield batch
    elif batch.num_rows == 1:
        yield None
    else:
        half = batch.num_rows // 2
        yield from _pieces(batch.slice(0, half))
        yield from _pieces(batch.slice(half))


def _weight_of(batch: pa.RecordBatch) -> int:
    return sum(_weight(column) for column in batch.columns)


def _weight(array: pa.Array) -> int:
    """Bytes of an array's values written out: one that stands once in a dictionary weighs as often as it is meant."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        if not _is_text(kind.value_type):
            return len(array) * 8
        lengths = pc.take(pc.binary_length(array.dictionary.cast(pa.large_binary())), array.indices)
        return int(pc.sum(pc.cast(lengths, pa.int64())).as_py() or 0)
    if pa.types.is_struct(kind):
        return sum(_weight(field) for field in array.flatten())
    if pa.types.is_map(kind):
        pairs = pa.StructArray.from_arrays([array.keys, array.items], ["key", "value"])
        return _weight(pa.ListArray.from_arrays(array.offsets, pairs).flatten())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _weight(array.flatten())
    size: int = array.nbytes
    return size


def _written_out(kind: pa.DataType) -> pa.DataType:
    """The type with every dictionary in it replaced by what it holds, and times no finer than Python's."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if kind == pa.time64("ns"):
        return pa.time64("us")
    if kind == pa.duration("ns"):
        return pa.duration("us")
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_written_out(field.type)) for field in kind.fields])
    if pa.types.is_map(kind):
        return pa.map_(_written_out(kind.key_type), _written_out(kind.item_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_written_out(kind.value_type)))
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_written_out(kind.value_type)))
    return kind


def _is_text(kind: pa.DataType) -> bool:
    ways = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(way(kind) for way in ways)


def _rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    try:
        return batch.to_pylist(maps_as_pydicts=_MAPS)  # type: ignore[no-any-return]
    except (ValueError, OverflowError, KeyError):
        # One string that is not UTF-8 must cost its own row alone, and a time that Python cannot say nothing.
        return [_one(batch.slice(at, 1)) for at in range(batch.num_rows)]


def _one(row: pa.RecordBatch) -> dict[str, Any]:
    try:
        return {name: _value(row[name]) for name in row.schema.names}
    except (UnicodeDecodeError, KeyError) as error:
        reason = error.reason if isinstance(error, UnicodeDecodeError) else None
        told = f"holds text that is not UTF-8 ({reason})" if reason else "holds a map with a key twice"
        return {"": Fault(0, told, raw=written({name: _lossy(row[name]) for name in row.schema.names}))}


def _value(column: pa.Array) -> Any:
    """The one value of a column, as text where it is a time beyond Python's.

    UnicodeDecodeError for no UTF-8, KeyError for a map with a key twice.
    """
    try:
        return column[0].as_py(maps_as_pydicts=_MAPS)
    except (UnicodeDecodeError, KeyError):
        raise
    except (ValueError, OverflowError):
        try:
            return column.cast(pa.string())[0].as_py()
        except pa.ArrowException:
            return None


def _lossy(column: pa.Array) -> Any:
    """The one value of a column, with what is not UTF-8 escaped where it is text by itself."""
    try:
        return _value(column)
    except (UnicodeDecodeError, KeyError):
        if not _is_text(column.type):
            return None
        return column.cast(pa.large_binary())[0].as_py().decode("utf-8", "backslashreplace")


def _record(number: int, fields: dict[str, Any], weight: int) -> Record | Fault:
    told = fields.get("")
    if isinstance(told, Fault):
        return replace(told, number=number)
    long = next((name for name, value in fields.items() if _length(value) > MAX_RECORD_BYTES), None)
    if long is not None:
        return Fault(number, f"holds more than {MAX_RECORD_BYTES} bytes", long, written(fields))
    return Record(number, {name: _plain(value) for name, value in fields.items()}, weight=weight)


def _plain(value: Any, *, inside: bool = False) -> Any:
    """Values as JSON would give them; keys that a struct type adds to every row are left out where they are null.

    `inside` others whatever JSON has no word for is its text; a column's own value stays what it is. Bytes that are no
    UTF-8 stay bytes: it may be a picture that nobody reads, and whoever reads it as text refuses it.
    """
    if isinstance(value, dict):
        return {_shown(key): _plain(each, inside=True) for key, each in value.items() if each is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(each, inside=True) for each in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    return value if not inside or value is None or isinstance(value, (str, int, float)) else str(value)


def _shown(value: Any) -> str:
    """What JSON has no word for, as text; of bytes what is not UTF-8 is escaped."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, (str, bytes)) else 0


def _opened(path: Path, name: str) -> tuple[pq.ParquetFile, int]:
    """The file, and how many of its rows may be read at a time."""
    try:
        metadata = pq.read_metadata(path)
        leaves = [metadata.schema.column(at) for at in range(len(metadata.schema))]
        if len(leaves) > _MAX_COLUMNS:
            raise InvalidInput(f"{name} has {len(leaves)} columns, more than {_MAX_COLUMNS}", field="file")
        held, size = _plan(metadata, leaves, dictionaries.sizes(path, metadata), name)
        file = pq.ParquetFile(path, memory_map=False, pre_buffer=False, buffer_size=1024 * 1024, read_dictionary=held)
    except (pa.ArrowException, OSError) as error:
        raise InvalidInput(f"{name} is not a Parquet file that can be read: {_line(error)}", field="file") from error
    names = file.schema_arrow.names
    twice = sorted({each for each in names if names.count(each) > 1})
    if twice:
        raise InvalidInput(f"{name} has the column {twice[0]!r} twice", field="file")
    return file, size


def _plan(metadata: Any, leaves: list[Any], sizes: list[list[int]], name: str) -> tuple[list[str], int]:
    """Which columns are read as dictionaries, and how many rows at a time.

    A file of a few bytes may mean a text of a hundred megabytes in every row, so that one like it is held once and not
    written out. To hold a column so takes all of its row group into memory: an ordinary one is read page by page.
    """
    held, size = dict[str, None](), _ROWS
    for at, of_columns in enumerate(sizes):
        group = metadata.row_group(at)
        here, written_out = 0, 0
        for column, (leaf, dictionary) in enumerate(zip(leaves, of_columns, strict=True)):
            chunk = group.column(column)
            _check(chunk, leaf, f"{name}: column {leaf.path!r} of row group {at}")
            meant = dictionary * (chunk.num_values if leaf.max_repetition_level else 1)
            if leaf.physical_type == "BYTE_ARRAY" and meant > _MAX_DICTIONARY_BYTES:
                held[leaf.path] = None
                here += chunk.total_uncompressed_size
            else:
                written_out += meant
        for told, most in ((group.total_byte_size, _MAX_GROUP_BYTES), (here, _MAX_HELD_BYTES)):
            if told > most:
                raise InvalidInput(
                    f"{name}: row group {at} unpacks to {told} bytes, more than {most}: write row groups of at most "
                    f"{max(1, group.num_rows * most // told)} rows (row_group_size of pyarrow)",
                    reason="COMPRESSION_BOMB",
                    field="file",
                )
        row = group.total_byte_size // max(group.num_rows, 1)
        size = min(size, _MAX_WRITTEN_OUT_BYTES // max(written_out, 1), _MAX_PIECE_BYTES // max(row, 1))
    return list(held), max(size, 1)


def _check(chunk: Any, leaf: Any, what: str) -> None:
    """Refuse a column of a row group that would take more memory than a file can ask for."""
    if leaf.max_repetition_level and chunk.num_values > _MAX_VALUES:
        wrong = f"unpacks to {chunk.num_values} values, more than {_MAX_VALUES}"
    elif leaf.physical_type == "FIXED_LEN_BYTE_ARRAY" and leaf.length > _MAX_FIXED_BYTES:
        wrong = f"has values of {leaf.length} bytes each, more than {_MAX_FIXED_BYTES}"
    else:
        return
    raise InvalidInput(f"{what} {wrong}: write smaller row groups", reason="COMPRESSION_BOMB", field="file")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
