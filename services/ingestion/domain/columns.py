"""Which column of an imported file is which field of a row."""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from libs.contracts.errors import InvalidInput
from libs.contracts.task import ColumnMap

FIELDS = tuple(ColumnMap.model_fields)
MESSAGES = "messages"


@dataclass(frozen=True, slots=True)
class Columns:
    """Column per field; None means that the file does not give the field."""

    input: str
    output: str | None = None
    category: str | None = None
    id: str | None = None
    group: str | None = None
    user: str | None = None
    created_at: str | None = None


def resolve(declared: ColumnMap, overrides: Mapping[str, str]) -> Columns:
    """The task's map with the call's overrides; an empty one unmaps its field. InvalidInput names an unknown field."""
    chosen: dict[str, str | None] = declared.model_dump()
    for field, column in overrides.items():
        if field not in FIELDS:
            raise InvalidInput(f"there is no field {field!r} to map a column to{nearest(field, FIELDS)}", field=field)
        chosen[field] = column or None
    wanted = chosen.pop("input")
    if not wanted:
        raise InvalidInput("the field 'input' needs a column", field="input")
    return Columns(input=wanted, **chosen)


def settle(columns: Columns, available: Collection[str]) -> Columns:
    """Check the map against the columns a file has.

    A file of chat `messages` needs neither input nor output. Where the map gives no answer at all, a column called
    `output` is taken for it. InvalidInput names the missing column and the nearest there is.
    """
    chat = MESSAGES in available and columns.input not in available
    if not chat:
        _require("input", columns.input, available)
        if columns.output is None and columns.category is None:
            if "output" not in available:
                raise InvalidInput(
                    "no column gives the answer: map 'output' or 'category' to one of " + _listed(available),
                    field="output",
                )
            columns = replace(columns, output="output")
    for field, column in _fields(columns).items():
        if column is not None and not (chat and field in ("input", "output")):
            _require(field, column, available)
    return columns


def nearest(word: str, known: Collection[str]) -> str:
    """`; did you mean 'x'?` with the closest of `known`, or nothing."""
    close = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else ""


def _fields(columns: Columns) -> dict[str, str | None]:
    return {field: getattr(columns, field) for field in FIELDS}


def _require(field: str, column: str, available: Collection[str]) -> None:
    if column not in available:
        hint = nearest(column, available) or f"; there are {_listed(available)}"
        raise InvalidInput(f"the file has no column {column!r} for {field!r}{hint}", field=field)


def _listed(names: Collection[str]) -> str:
    shown = sorted(names)[:20]
    return ", ".join(repr(name) for name in shown) or "none"
