"""Segments and quarantines without a subject: its rows go, and what the judgements of others took from them."""

import base64
import csv
import json
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from libs.contracts.ids import record_of
from services.ingestion.compute.lines import MAX_RECORD_BYTES
from services.ingestion.compute.segments import segment_of, written
from services.ingestion.domain.rows import hashed_user

_JUDGED = ("judgement", "confidence", "review")
ERASED = "erased at the request of its subject"
# Up to the closing quote or, where a record was cut, to its end: tried from one place, never from the next one again.
_QUOTED = re.compile(r'"((?:[^"\\]++|\\.)*+)"?', re.DOTALL)
_BROKEN = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?$")
_LETTERS = ("utf-8", "cp1252", "latin-1")
_WIDE_LETTERS = ("utf-16-le", "utf-16-be")
_BETWEEN = re.compile(r"[,;|\t\r\n:{}\[\]]")
_DELIMITERS = (",", ";", "\t", "|")
_NESTED = 4
"""How deep JSON may lie in texts of JSON for names in it to be found."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a segment holds of a subject: ids of its rows, and the requests those are about."""

    rows: frozenset[str]
    requests: frozenset[str]


def held(data: bytes, user: str, asked: Collection[str] = ()) -> Held:
    """What a segment of rows holds of the user with this hash, who `asked` these requests.

    What somebody else said of an answer to him repeats what he asked, so that it is his too.
    """
    table = pq.read_table(pa.BufferReader(data), columns=["row_id", "request_id", "user"])
    own = pc.fill_null(pc.equal(table.column("user"), user), False)
    mine = table.filter(pc.or_(own, pc.is_in(table.column("request_id"), _strings(asked))))
    requests = mine.column("request_id").to_pylist()
    return Held(frozenset(mine.column("row_id").to_pylist()), frozenset(each for each in requests if each))


def rows_without(data: bytes, gone: Held, numbers: Sequence[int]) -> tuple[bytes, list[int]] | None:
    """An object without the rows that are gone, and the rows of each of its segments; None where it holds none of them.

    A judgement that heard one of them is taken back: what it says may be what they said. A record that is the subject's
    under one version is his under all of them.
    """
    table = pq.read_table(pa.BufferReader(data))
    records = pc.replace_substring_regex(table.column("row_id"), "~.*", "")
    left = table.filter(pc.invert(pc.is_in(records, _strings({record_of(each) for each in gone.rows}))))
    spoiled = pa.array(_spoiled(left, gone), pa.bool_())
    if left.num_rows == table.num_rows and not pc.any(spoiled).as_py():
        return None
    for name in _JUDGED:
        if name in left.schema.names:
            at, field = left.schema.get_field_index(name), left.schema.field(name)
            cleared = pc.if_else(spoiled, pa.scalar(None, field.type), left.column(name).combine_chunks())
            left = left.set_column(at, field, cleared)
    return written(left), [segment_of(left, number).num_rows for number in numbers]


def inferences_without(data: bytes, tenant: str, user: str) -> tuple[bytes, int, list[str]] | None:
    """A segment of the inference log and its length without what the user asked, and which requests those were.

    None where it holds none of it.
    """
    table = pq.read_table(pa.BufferReader(data))
    units = pc.unique(table.column("unit")).to_pylist()
    mine = [unit for unit in units if hashed_user(tenant, unit) == user]
    if not mine:
        return None
    his = pc.is_in(table.column("unit"), _strings(mine))
    left = table.filter(pc.invert(his))
    return written(left), left.num_rows, table.filter(his).column("request_id").to_pylist()


def quarantine_without(before: Path, after: Path, tenant: str, user: str) -> list[int]:
    """Write a quarantine without the records that name the user to `after`; returns their numbers.

    A record that could not be read has no field for its user, so every value in it is asked whether it is the user's
    name. Its line stays, without the record: the counts of the import still hold. One line is held at a time.
    """
    gone = list[int]()
    with before.open(encoding="utf-8") as source, after.open("w", encoding="utf-8") as target:
        for line in source:
            told = json.loads(line)
            raws = [told["raw"]] if "raw" in told else _read(base64.b64decode(told["raw_base64"]))
            if any(hashed_user(tenant, name) == user for raw in raws for name in _names(raw)):
                gone.append(int(told["row"]))
                kept = {name: told[name] for name in ("import", "row") if name in told}
                line = json.dumps({**kept, "field": "", "reason": ERASED, "raw": ""}) + "\n"  # noqa: PLW2901
            target.write(line)
    return gone


def _read(raw: bytes) -> Iterator[str]:
    """What the bytes say in each encoding that they may be in: none of them is known to be right."""
    for letters in (*_LETTERS, *(_WIDE_LETTERS if b"\0" in raw else ())):
        yield raw.decode(letters, errors="replace")


def _names(raw: str, depth: int = _NESTED) -> Iterator[str]:
    """Whatever may be a value of a record in JSON or CSV, each once, of JSON within a text too."""
    found = dict.fromkeys(each.strip().strip('"') for each in _BETWEEN.split(raw))
    for within in _QUOTED.findall(raw):
        said = _said(within).strip()
        found[said] = None
        if depth and '"' in said:
            found |= dict.fromkeys(_names(said, depth - 1))
    # Of the marks that may stand between cells one does; the others are letters of a name, and so is a doubled quote.
    for delimiter in _DELIMITERS:
        found |= dict.fromkeys(each.strip() for cells in _cells(raw, delimiter) for each in cells)
        found |= dict.fromkeys(each.strip() for each in raw.split(delimiter))
    return (name for name in found if name)


def _said(within: str) -> str:
    """What stands between quotes, where it was cut without the escape that it was cut in."""
    for text in (within, _BROKEN.sub("", within)):
        with suppress(ValueError):
            return str(json.loads(f'"{text}"', strict=False))
    return within


def _cells(raw: str, delimiter: str) -> Iterator[list[str]]:
    """Cells of a record, if it is a CSV's, as far as it is one."""
    if delimiter not in raw and '""' not in raw:
        return
    csv.field_size_limit(MAX_RECORD_BYTES)
    reader = csv.reader(raw.splitlines(keepends=True), delimiter=delimiter)
    with suppress(csv.Error):
        yield from reader


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
