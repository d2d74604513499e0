"""Segments without a subject: its rows go, and so does what the judgements of others took from them."""

import json
from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from services.ingestion.compute.segments import written
from services.ingestion.domain.rows import hashed_user

_JUDGED = ("judgement", "confidence", "review")


@dataclass(frozen=True, slots=True)
class Held:
    """What a segment holds of a subject: ids of its rows, and the requests those are about."""

    rows: frozenset[str]
    requests: frozenset[str]


def held(data: bytes, user: str) -> Held:
    """What a segment of rows holds of the user with this hash."""
    table = pq.read_table(pa.BufferReader(data), columns=["row_id", "request_id", "user"])
    mine = table.filter(pc.fill_null(pc.equal(table.column("user"), user), False))
    requests = mine.column("request_id").to_pylist()
    return Held(frozenset(mine.column("row_id").to_pylist()), frozenset(each for each in requests if each))


def rows_without(data: bytes, gone: Held) -> tuple[bytes, int] | None:
    """A segment of rows and their number without the rows that are gone; None where it holds nothing of them.

    A judgement that heard one of them is taken back: what it says may be what they said.
    """
    table = pq.read_table(pa.BufferReader(data))
    left = table.filter(pc.invert(pc.is_in(table.column("row_id"), _strings(gone.rows))))
    spoiled = pa.array(_spoiled(left, gone))
    if left.num_rows == table.num_rows and not pc.any(spoiled).as_py():
        return None
    for name in _JUDGED:
        if name in left.schema.names:
            at, field = left.schema.get_field_index(name), left.schema.field(name)
            cleared = pc.if_else(spoiled, pa.scalar(None, field.type), left.column(name).combine_chunks())
            left = left.set_column(at, field, cleared)
    return written(left), left.num_rows


def inferences_without(data: bytes, tenant: str, user: str) -> tuple[bytes, int] | None:
    """A segment of the inference log and its length without what the user asked; None where it holds none of it."""
    table = pq.read_table(pa.BufferReader(data))
    units = pc.unique(table.column("unit")).to_pylist()
    mine = [unit for unit in units if hashed_user(tenant, unit) == user]
    if not mine:
        return None
    left = table.filter(pc.invert(pc.is_in(table.column("unit"), _strings(mine))))
    return written(left), left.num_rows


def _spoiled(table: pa.Table, gone: Held) -> list[bool]:
    if "judgement" not in table.schema.names:
        return [False] * table.num_rows
    columns = (table.column(name).to_pylist() for name in ("request_id", "judgement"))
    return [
        bool(judgement) and request in gone.requests and not gone.rows.isdisjoint(json.loads(judgement)["rows"])
        for request, judgement in zip(*columns, strict=True)
    ]


def _strings(values: Collection[str]) -> pa.Array:
    return pa.array(sorted(values), pa.string())
