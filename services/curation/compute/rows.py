"""Reads segments into rows and repairs their text."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import ftfy
import polars as pl

from libs.contracts.errors import DataLoss
from services.curation.domain.rows import Row
from services.curation.domain.text import normalise

_COLUMNS = (
    "row_id", "kind", "source", "input", "output", "signal", "created_at", "system", "history", "category", "group",
    "request_id", "consent",
)  # fmt: skip
_OPTIONAL = ("history",)
# Repairs of bytes read wrongly, and nothing that changes what somebody typed.
_REPAIR = ftfy.TextFixerConfig(
    unescape_html=False, uncurl_quotes=False, fix_latin_ligatures=False, fix_character_width=False, explain=False
)


def load(paths: Sequence[Path]) -> list[Row]:
    """Rows of the segments, in order, each id once; DataLoss names a segment that is not one."""
    rows: dict[str, Row] = {}
    for path in paths:
        try:
            table = pl.read_parquet(path)
            missing = [name for name in _COLUMNS if name not in table.columns and name not in _OPTIONAL]
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataLoss(f"segment {path.name} cannot be read: {error}", field="segment") from error
        if missing:
            raise DataLoss(f"segment {path.name} lacks the column {missing[0]!r}", field="segment")
        for row in table.select([name for name in _COLUMNS if name in table.columns]).iter_rows(named=True):
            rows.setdefault(row["row_id"], Row(answer=row.pop("output"), **row))
    return list(rows.values())


def repair(rows: Sequence[Row]) -> Counter[str]:
    """Repair encodings and normalise, in place; counts the rows whose text changed, by kind of change."""
    changed: Counter[str] = Counter()
    for row in rows:
        kinds = set[str]()
        row.input = _clean(row.input, kinds)
        row.answer = _clean(row.answer, kinds) if row.answer is not None else None
        row.system = _clean(row.system, kinds) if row.system else None
        row.category = _clean(row.category, kinds) or None if row.category else None
        changed.update(kinds)
    return changed


def _clean(text: str, kinds: set[str]) -> str:
    repaired = text if text.isascii() else ftfy.fix_text(text, _REPAIR)
    if repaired != text:
        kinds.add("encoding_repaired")
    clean = normalise(repaired)
    if clean != repaired:
        kinds.add("whitespace_or_controls_cleaned")
    return clean
