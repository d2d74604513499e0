"""A batch by adapter: which rows are multiplied by whose weights, and how, worked out once per step."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

Rows = Any
"""A slice of the batch, or a tensor of indices of its rows."""
Group = tuple[int, Rows]
"""A slot, and the rows that are its."""
_FEW_ROWS, _MANY_GROUPS = 8, 3


@dataclass(frozen=True, slots=True)
class Together:
    """Groups of few rows. `places` (groups x longest,) index rows of the batch, padded with any, and `shape` are those
    two numbers; `rows` are all of them in order, and `taken` says where each lies in `places`.

    `slots` (groups,); None: each slot there is, in order, so that no weight has to be copied.
    """

    slots: Any
    places: Any
    shape: tuple[int, int]
    rows: Rows
    taken: Any


class Groups:
    """The groups of a batch, worked out when they are first asked for.

    Args:
        indices: (rows,), names each row's slot; negative: no adapter, left out.
        slots: How many there are.
    """

    def __init__(self, indices: Any, slots: int) -> None:
        self._indices = indices
        self._slots = slots

    @cached_property
    def _parts(self) -> tuple[tuple[Group, ...], Any]:
        """Rows of one prompt lie side by side and are taken as they lie; those left over, in order, are scattered."""
        found, counts = self._indices.unique_consecutive(return_counts=True)
        lengths = counts.tolist()
        runs: list[Group] = []
        left = self._indices >= 0
        begin = 0
        for slot, length in zip(found.tolist(), lengths, strict=True):
            if slot >= 0 and (length > _FEW_ROWS or len(lengths) == 1):
                runs.append((slot, slice(begin, begin + length)))
                left[runs[-1][1]] = False
            begin += length
        return tuple(runs), left.nonzero().squeeze(1)

    @cached_property
    def every(self) -> tuple[Group, ...]:
        """One by one."""
        runs, rows = self._parts
        ordered, order = self._indices[rows].sort(stable=True)
        found, counts = ordered.unique_consecutive(return_counts=True)
        return (*runs, *zip(found.tolist(), rows[order].split(counts.tolist()), strict=True))

    @cached_property
    def alone(self) -> tuple[Group, ...]:
        """Those that are not `together`."""
        if self.together is None:
            return self.every
        runs, rows = self._parts
        slots = self._indices[rows]
        large = (slots.bincount() > _FEW_ROWS).nonzero().squeeze(1).tolist()
        return (*runs, *((slot, rows[slots == slot]) for slot in large))

    @cached_property
    def together(self) -> Together | None:
        """Those of few rows, where there are many of them."""
        import torch

        _, rows = self._parts
        if len(rows) < _MANY_GROUPS:
            return None
        ordered, order = self._indices[rows].sort(stable=True)
        counts = ordered.bincount(minlength=self._slots)
        few = (counts > 0) & (counts <= _FEW_ROWS)
        number = int(few.sum())
        if number < _MANY_GROUPS:
            return None
        within = torch.arange(len(rows)) - (counts.cumsum(0) - counts)[ordered]
        kept = few[ordered]
        mine, owner, within = rows[order][kept], ordered[kept], within[kept]
        # Copying the weights of most slots takes longer than multiplying some rows in vain by those of all.
        whole = 2 * number >= self._slots
        groups, longest = self._slots if whole else number, int(counts[few].max())
        at = (owner if whole else (few.cumsum(0) - 1)[owner]) * longest + within
        places = torch.zeros(groups * longest, dtype=rows.dtype)
        places[at] = mine
        ordered_rows, order = mine.sort()
        slots = None if whole else few.nonzero().squeeze(1)
        return Together(slots, places, (groups, longest), _as_slice(ordered_rows), at[order])


def _as_slice(rows: Any) -> Rows:
    """Ordered rows as a slice, if they lie side by side."""
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last - first + 1 == len(rows) else rows
