"""Star clusters: a row joins one centre it is verified similar to, never a chain of neighbours.

Transitive closure over similar pairs merges half of a templated corpus into one cluster; a star's members are all
within the threshold of its centre. Rows come in order of arrival and only rows before them are centres, so that a later
version of the data never changes what an earlier row belongs to.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol

from services.curation.domain.text import jaccard

GROUP_THRESHOLD = 0.7
"""Of grouping; a constant and not policy, since a split is permanent while policies change."""


class Neighbours(Protocol):
    """Proposes rows that may be similar, among those added."""

    def add(self, at: int) -> None:
        """From now on propose row `at`."""
        ...

    def near(self, at: int) -> Sequence[int]:
        """Rows added that may be similar to row `at`, ascending."""
        ...


def stars(
    sets: Sequence[frozenset[str]],
    neighbours: Neighbours,
    threshold: float,
    *,
    joins: Callable[[int, int], bool] = lambda _row, _centre: True,
) -> list[int]:
    """The centre of each row (itself, for a centre): the most similar earlier centre at or above `threshold`.

    `joins(row, centre)` may forbid a union that similarity allows.
    """
    centres = []
    for at, mine in enumerate(sets):
        best, found = threshold, at
        for other in neighbours.near(at):
            similarity = jaccard(mine, sets[other])
            if (similarity > best or (similarity == best and found == at)) and joins(at, other):
                best, found = similarity, other
        centres.append(found)
        if found == at:
            neighbours.add(at)
    return centres


def groups(forms: Sequence[frozenset[str]], explicit: Sequence[str | None], centres: Sequence[int]) -> list[str]:
    """The permanent group of each row: its own, else its centre's, else one named after the centre's form."""
    named: list[str] = []
    for own, form, centre in zip(explicit, forms, centres, strict=True):
        if own is not None:
            named.append(f"g:{own}")
        elif centre < len(named):
            named.append(named[centre])
        else:
            text = " ".join(sorted(form))
            named.append(f"c:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}")
    return named
