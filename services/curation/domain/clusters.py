"""Star clusters: a row joins one centre it is verified similar to, never a chain of neighbours.

Transitive closure over similar pairs merges half of a templated corpus into one cluster; a star's members are all
within the threshold of its centre. Rows come in order of arrival and only rows before them are centres, so that a later
version of the data never changes what an earlier row belongs to.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

GROUP_THRESHOLD = 0.7
"""Of grouping; a constant and not policy, since a split is permanent while policies change."""

_BLOWN_UP, _MANY = 0.05, 50
"""Share of all rows, and the least number of them, from which one cluster raises the alarm."""


@dataclass(frozen=True, slots=True)
class Apart:
    """Two rows that look alike and are kept apart: the kind of their difference and the words on either side."""

    row: int
    other: int
    kind: str
    similarity: float
    detail: str


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """The centre of each row (itself, where it is kept), similarity per merged row, and what was not merged and why.

    `apart` shows the strongest pairs kept apart, `apart_pairs` counts those seen by kind; `largest` is the size of the
    largest cluster, `alarm` a sentence where it is far too large.
    """

    centres: list[int]
    similarity: dict[int, float]
    apart: tuple[Apart, ...]
    apart_pairs: dict[str, int]
    largest: int
    alarm: str | None
    method: str

    def merged(self) -> Iterator[tuple[int, int, float]]:
        """Row, centre and similarity of each row merged, ascending."""
        for row in sorted(self.similarity):
            yield row, self.centres[row], self.similarity[row]


def nearest_centres(pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """The centre of each row that is none, of similar pairs (row, earlier row) by row and then by falling similarity.

    A row joins the first of its partners that is a centre, and is one itself where none of them is.
    """
    joined: dict[int, int] = {}
    for row, other in pairs:
        if row not in joined and other not in joined:
            joined[row] = other
    return joined


def alarm_of(centre: int, largest: int, rows: int) -> str | None:
    """What to say when one cluster swallowed too much of the data."""
    if largest < _MANY or largest <= _BLOWN_UP * rows:
        return None
    return (
        f"one cluster, around row {centre}, holds {largest} of {rows} rows ({largest / rows:.0%}); if they are not "
        "copies of one text, raise data.duplicates.threshold"
    )


class Neighbours(Protocol):
    """Proposes rows that may be similar, among those added."""

    def add(self, at: int) -> None:
        """From now on propose row `at`."""
        ...

    def near(self, at: int) -> Sequence[int]:
        """Rows added that may be similar to row `at`, ascending."""
        ...
