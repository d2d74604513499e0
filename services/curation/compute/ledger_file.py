"""The ledger as Parquet: a line per entry, the last of each row marked final; equal ledgers are equal bytes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from libs.contracts.errors import DataLoss, NotFound
from services.curation.domain.ledger import Ledger
from services.curation.domain.rows import Row
from services.curation.domain.rules import rule_of
from services.curation.domain.suite import item_id_of

SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("sequence", pa.int32(), nullable=False),
        pa.field("step", pa.string(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),
        pa.field("version", pa.int32(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("evidence", pa.string(), nullable=False),
        pa.field("other", pa.string(), nullable=False),
        pa.field("final", pa.bool_(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("lineage", pa.string()),
    ]
)
"""`sequence` counts the entries of a row from 0; `group` and `split` are empty for an erased row."""
FINALS = ["row_id", "rule", "outcome", "other", "split"]


def write(
    path: Path,
    ledger: Ledger,
    rows: Sequence[Row],
    placed: Mapping[str, tuple[str, str]],
    labels: Mapping[str, str],
) -> None:
    """Write the ledger of a build; rows in order of arrival, `labels` what their sources are called outside."""
    entries: dict[str, list[Any]] = {}
    for entry in ledger.entries:
        entries.setdefault(entry.row_id, []).append(entry)
    finals = ledger.finals([row.row_id for row in rows])
    lines: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for row, final in zip(rows, finals, strict=True):
        mine = entries.get(row.row_id) or [final]
        stop = mine.index(final)
        group, split = placed.get(row.row_id, ("", ""))
        source = labels.get(row.source, "")
        for sequence, entry in enumerate(mine[: stop + 1]):
            rule = rule_of(entry.rule)
            values = (
                row.row_id, sequence, rule.step, rule.name, rule.version, str(rule.outcome), entry.evidence,
                entry.other, sequence == stop, row.kind, source, group, split, row.lineage,
            )  # fmt: skip
            for name, value in zip(SCHEMA.names, values, strict=True):
                lines[name].append(value)
    pq.write_table(pa.Table.from_pydict(lines, schema=SCHEMA), path, compression="zstd")


def placed_in(path: Path) -> dict[str, tuple[str, str]]:
    """Group and split of every row a ledger places; DataLoss when it is no ledger."""
    table = _read(path, ["row_id", "group", "split", "final"], pc.field("final") & (pc.field("group") != ""))
    columns = [table.column(name).to_pylist() for name in ("row_id", "group", "split")]
    return {row_id: (group, split) for row_id, group, split in zip(*columns, strict=True)}


def history(path: Path, row_id: str) -> list[dict[str, Any]]:
    """Everything a ledger says of a row, in order; NotFound when it never came in."""
    found = _read(path, SCHEMA.names, pc.field("row_id") == row_id).to_pylist()
    if not found:
        raise NotFound(f"row {row_id!r} never came into this dataset version", field="row")
    return sorted(found, key=lambda entry: int(entry["sequence"]))


def finals_of(path: Path) -> dict[str, dict[str, str]]:
    """How each row ended: rule, outcome, other and split by row id."""
    table = _read(path, [*FINALS, "final"], pc.field("final") == True)  # noqa: E712 - an expression of pyarrow
    return {line["row_id"]: line for line in table.select(FINALS).to_pylist()}


def lineages(path: Path) -> dict[str, dict[str, Any]]:
    """What each synthetic row of a ledger was made from."""
    table = _read(path, ["row_id", "lineage", "final"], pc.field("final") & pc.field("lineage").is_valid())
    return {line["row_id"]: json.loads(line["lineage"]) for line in table.to_pylist()}


def without(path: Path, row_ids: frozenset[str], target: Path) -> int:
    """Write the ledger without these rows, and without their names in what it says of others; counts entries gone.

    An item of a suite is named after its row.
    """
    table = _read(path, SCHEMA.names, None)
    gone = pa.array(sorted(row_ids), pa.string())
    names = row_ids | {item_id_of(row_id) for row_id in row_ids}
    left = table.filter(pc.invert(pc.is_in(table.column("row_id"), gone)))
    quoting = [text for text in pc.unique(left.column("evidence")).to_pylist() if not names.isdisjoint(_words(text))]
    named = pc.or_(
        pc.is_in(left.column("other"), gone), pc.is_in(left.column("evidence"), pa.array(quoting, pa.string()))
    )
    for name, instead in (("other", ""), ("evidence", "of an erased row")):
        column = pc.if_else(named, instead, left.column(name))
        left = left.set_column(left.schema.get_field_index(name), SCHEMA.field(name), column)
    pq.write_table(left.cast(SCHEMA), target, compression="zstd")
    return int(table.num_rows - left.num_rows)


def _words(evidence: str) -> set[str]:
    return {word.strip(".,:;()") for word in evidence.split()}


def _read(path: Path, columns: list[str], where: Any) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns, filters=where)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise DataLoss(f"{path.name} is no ledger: {error}", field="ledger") from error
