"""How large the dictionaries of a Parquet file are: a value held once may be meant in every row.

Metadata does not say; the header of a column's first page does (parquet.thrift `PageHeader`, in the compact protocol).
"""

from pathlib import Path
from typing import Any

_DICTIONARY_PAGE = 2
_HEAD_BYTES = 16


def sizes(path: Path, metadata: Any) -> list[list[int]]:
    """Bytes of the dictionary of each column, row group by row group; 0 where it has none."""
    with path.open("rb") as file:
        found = []
        for at in range(metadata.num_row_groups):
            group = metadata.row_group(at)
            found.append([_size(file, group.column(column)) for column in range(group.num_columns)])
        return found


def _size(file: Any, chunk: Any) -> int:
    offsets = (chunk.dictionary_page_offset, chunk.data_page_offset)
    file.seek(min(each for each in offsets if each is not None and each > 0) if any(offsets) else 0)
    head = file.read(_HEAD_BYTES)
    kind, at = _number(head, 0)
    size, _ = _number(head, at)
    if kind is None or size is None:
        return int(chunk.total_uncompressed_size)
    return max(size, 0) if kind == _DICTIONARY_PAGE else 0


def _number(head: bytes, at: int) -> tuple[int | None, int]:
    """The 32-bit integer of the next field, and where it ends; None where another kind of field stands there."""
    if at >= len(head) or head[at] != 0x15:
        return None, at
    value = shift = 0
    for place in range(at + 1, len(head)):
        value |= (head[place] & 0x7F) << shift
        shift += 7
        if head[place] < 0x80:
            return (value >> 1) ^ -(value & 1), place + 1
    return None, len(head)
