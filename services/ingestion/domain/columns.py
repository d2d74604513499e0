"""Which column of an imported file is which field of a row, and which shape its records have."""

import dataclasses
import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from libs.contracts.errors import InvalidInput
from libs.contracts.task import ColumnMap
from services.ingestion.domain import shapes
from services.ingestion.domain.examples import Example
from services.ingestion.domain.faults import BadRowError

FIELDS = tuple(ColumnMap.model_fields)
_CONTENT = ("input", "output", "system", "rejected", "label")
"""Fields that a known shape gives by itself; the others may be mapped beside any shape."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The shape of the records and the column per field; None means that the file does not give the field."""

    input: str
    output: str | None = None
    system: str | None = None
    rejected: str | None = None
    label: str | None = None
    category: str | None = None
    id: str | None = None
    group: str | None = None
    user: str | None = None
    created_at: str | None = None
    consent: str | None = None
    licence: str | None = None
    shape: str = shapes.COLUMNS
    named: bool = False
    """Somebody named the shape: what he did not ask for is not looked for."""
    answered: bool = dataclasses.field(default=False, repr=False)
    """Records of the file have answers: one that has none is not answered by its category."""

    def content(self) -> dict[str, str | None]:
        """The columns of the fields that say what is asked and answered."""
        return {name: getattr(self, name) for name in _CONTENT}

    def unread(self, available: Collection[str]) -> list[str]:
        """Those of a table's columns that no field is mapped to: what they hold becomes part of no row.

        Of a known shape nothing is named; it says itself what it reads.
        """
        if self.shape != shapes.COLUMNS:
            return []
        read = {getattr(self, name) for name in FIELDS} | (set() if self.named else shapes.BESIDE_COLUMNS)
        return sorted(name for name in available if name not in read)

    def read(self, record: Mapping[str, Any]) -> Example:
        """What a record says, without an answer where it has none; BadRowError names the field."""
        if self.shape == shapes.COLUMNS:
            return shapes.mapped(record, self.content(), named=self.named)
        return shapes.read(self.shape, record, named=self.named)


@dataclass(frozen=True, slots=True)
class Wish:
    """What the task and the caller say of a file's columns, before the file was looked at."""

    columns: Columns
    asked: frozenset[str]
    """Fields that the caller maps."""
    declared: frozenset[str]
    """Fields that the task file maps."""
    shape: str = ""
    unmapped: frozenset[str] = frozenset()
    """Fields that the caller maps to no column."""


def resolve(declared: ColumnMap, overrides: Mapping[str, str], shape: str = "") -> Wish:
    """The task's map with the call's overrides; an empty one unmaps its field. InvalidInput names an unknown field."""
    if shape and shape not in (*shapes.known(), shapes.COLUMNS):
        every = [*shapes.known(), shapes.COLUMNS]
        raise InvalidInput(f"shape {shape!r} is not one of {', '.join(every)}{nearest(shape, every)}", field="shape")
    chosen: dict[str, str | None] = declared.model_dump()
    for field, column in overrides.items():
        if field not in FIELDS:
            raise InvalidInput(f"there is no field {field!r} to map a column to{nearest(field, FIELDS)}", field=field)
        chosen[field] = column or None
    wanted = chosen["input"]
    if not wanted:
        raise InvalidInput("the field 'input' needs a column", field="input")
    asked = frozenset(field for field, column in overrides.items() if column)
    beside = {name: chosen[name] for name in FIELDS if name != "input"}
    # Not the fields that were set: a specification that went through JSON has set them all.
    mapped = frozenset(name for name, each in ColumnMap.model_fields.items() if getattr(declared, name) != each.default)
    columns = Columns(wanted, named=bool(shape), shape=shapes.COLUMNS, answered=False, **beside)
    return Wish(columns, asked, mapped, shape, frozenset(overrides) - asked)


def settle(wish: Wish, available: Collection[str], sample: Sequence[Mapping[str, Any]]) -> Columns:
    """Decide how a file is read, from the columns it has and its first records.

    A shape that is named stands; else the column map, where the caller or the task gives one that the file has; else a
    known shape; else the columns `input` and `output`. A verdict beside an answer is read unless a shape was named.
    InvalidInput names the missing column and the nearest there is.
    """
    columns = _settled(wish, available, sample)
    asked_of = sample if columns.category is not None else ()
    return replace(columns, answered=any(_has_answer(columns, each) for each in asked_of))


def _settled(wish: Wish, available: Collection[str], sample: Sequence[Mapping[str, Any]]) -> Columns:
    columns = wish.columns
    shape = wish.shape or _shape(wish, available, sample)
    if shape != shapes.COLUMNS:
        if wish.shape:
            for key in sorted(shapes.keys_of(shape)):
                if key not in available:
                    hint = nearest(key, available) or f"; there are {_listed(available)}"
                    raise InvalidInput(f"the file has no column {key!r}, which {shape} needs{hint}", field="shape")
        kept = {field: _beside(field, wish, available) for field in FIELDS if field not in _CONTENT}
        return Columns(input=columns.input, shape=shape, named=columns.named, answered=False, **kept)
    if "input" not in wish.asked | wish.declared | set(available) and sample and shapes.is_bare(sample):
        raise InvalidInput(shapes.NO_QUESTION, reason="NO_QUESTION", field="text")
    _require("input", columns.input, available)
    # A category is what is to be learnt where the file has no answer, or where somebody says that it is none.
    answers = columns.category is None or ("output" in available and "output" not in wish.unmapped)
    if columns.output is None and columns.rejected is None and answers:
        if "output" not in available:
            raise InvalidInput(
                "no column gives the answer: map 'output' or 'category' to one of " + _listed(available), field="output"
            )
        columns = replace(columns, output="output")
    missing = {
        field: name for field in FIELDS if (name := getattr(columns, field)) is not None and name not in available
    }
    left_out = " ".join(f"{field}=" for field in missing if field not in wish.asked)
    for field, column in missing.items():
        _require(field, column, available, f"; without what the file has not: {left_out}" if left_out else "")
    return columns


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` with the closest of `known`, or nothing."""
    close = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else ""


def _shape(wish: Wish, available: Collection[str], sample: Sequence[Mapping[str, Any]]) -> str:
    if wish.asked & set(_CONTENT):
        return shapes.COLUMNS
    mapped = wish.declared & set(_CONTENT)
    if mapped and wish.columns.input in available:
        return shapes.COLUMNS
    return shapes.detect(sample) or shapes.COLUMNS


def _beside(field: str, wish: Wish, available: Collection[str]) -> str | None:
    """A column that goes beside a known shape: one that the caller names must be there, the task's map is a default.

    A default that is not there stands all the same: the first records of a JSON file need not have every key of it.
    """
    column = getattr(wish.columns, field)
    if column is not None and field in wish.asked:
        _require(field, column, available)
    return None if column is None else str(column)


def _has_answer(columns: Columns, record: Mapping[str, Any]) -> bool:
    try:
        example = columns.read(record)
    except BadRowError:
        return False
    return example.output is not None or example.rejected is not None


def _require(field: str, column: str, available: Collection[str], more: str = "") -> None:
    if column not in available:
        hint = (nearest(column, available) or f"; there are {_listed(available)}") + more
        raise InvalidInput(f"the file has no column {column!r} for {field!r}{hint}", field=field)


def _listed(names: Collection[str]) -> str:
    shown = sorted(names)[:20]
    return ", ".join(repr(name) for name in shown) or "none"
