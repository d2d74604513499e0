"""A part of an import is bounded in bytes, whatever form they came in."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.ingestion.compute.reading import MAX_PART_BYTES, Reading
from services.ingestion.domain.columns import Columns
from services.ingestion.domain.records import Origin

ORIGIN = Origin("default", "a", "a", datetime.now(UTC))
TEXT = "x" * 900_000


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_wide_rows_come_in_parts_of_few(tmp_path: Path, format: str) -> None:  # noqa: A002
    rows, path = 64, tmp_path / f"a.{format}"
    if format == "parquet":
        pq.write_table(pa.table({"input": ["q"] * rows, "output": [TEXT] * rows}), path)
        assert path.stat().st_size < MAX_PART_BYTES / 10, "a text that repeats is stored once"
    else:
        path.write_text("".join(json.dumps({"input": "q", "output": TEXT}) + "\n" for _ in range(rows)))
    reading = Reading(path, path.name, format, Columns(input="input", output="output"), ORIGIN, 5000)
    parts = []
    while (part := reading.next()).read:
        parts.append(part.read)
    assert sum(parts) == rows
    assert max(parts) * len(TEXT) <= MAX_PART_BYTES + len(TEXT)
