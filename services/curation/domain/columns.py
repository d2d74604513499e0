"""The columns of a version's files: what each says and of what kind it is, told alike to the hub and to Croissant."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What stands in a column. Plain messages have a role and a text and nothing else; anything else is JSON."""

    TEXT = "text"
    FLAG = "flag"
    NUMBER = "number"
    MESSAGES = "messages"
    JSON = "json"


_SAYS = {
    "row_id": "the row's id, the same in every version",
    "messages": "the conversation, the answer to be learnt last",
    "category": "category, where the row has one",
    "group": "rows of one group stand on one side of the split",
    "source": "where the row came from",
    "tools": "the tools that were offered",
    "rejected": "an answer that was wrong, as text or as messages",
    "label": "whether the answer was good, where only that is known",
    "licence": "under what the row may be used",
    "consent": "whether its user agreed, where that is known",
    "confidence": "how far the signals on the answer agree, from 0 to 1",
    "synthetic": "whether a teacher wrote the row",
    "lineage": "what a synthetic row was made from",
}
_LISTED = ("messages", "tools")
"""Columns that hold a list."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column that at least one published row has; rows without it have no value there."""

    name: str
    kind: Kind

    @property
    def says(self) -> str:
        """What the column holds, in words."""
        return _SAYS[self.name]

    def feature(self) -> dict[str, Any]:
        """The column as a feature of Hugging Face `datasets`, in the form of its YAML."""
        if self.kind is Kind.MESSAGES:
            parts = [{"name": "role", "dtype": "string"}, {"name": "content", "dtype": "string"}]
            return {"name": self.name, "list": parts}
        if self.name in _LISTED:
            return {"name": self.name, "list": "json"}
        types = {Kind.TEXT: "string", Kind.FLAG: "bool", Kind.NUMBER: "float64", Kind.JSON: "json"}
        return {"name": self.name, "dtype": types[self.kind]}


def kinds_in(line: Mapping[str, Any]) -> Iterable[tuple[str, Kind | None]]:
    """Name and kind of each column of one line; None where it holds no value."""
    return ((name, _kind(name, value)) for name, value in line.items())


def columns_of(seen: Iterable[tuple[str, Kind | None]]) -> tuple[Column, ...]:
    """The columns of all lines, in their order; one that holds values of several kinds is JSON, one of none is text."""
    kinds: dict[str, set[Kind]] = defaultdict(set)
    for name, kind in seen:
        kinds[name] |= {kind} if kind is not None else set()
    ordered = sorted(kinds, key=list(_SAYS).index)
    return tuple(Column(name, _common(kinds[name])) for name in ordered)


def _common(kinds: set[Kind]) -> Kind:
    return next(iter(kinds), Kind.TEXT) if len(kinds) < 2 else Kind.JSON


def _kind(name: str, value: Any) -> Kind | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return Kind.FLAG
    if isinstance(value, str):
        return Kind.TEXT
    if isinstance(value, (int, float)):
        return Kind.NUMBER
    return Kind.MESSAGES if name == "messages" and all(map(_plain, value)) else Kind.JSON


def _plain(message: Mapping[str, Any]) -> bool:
    return message.keys() == {"role", "content"} and isinstance(message["content"], str)
