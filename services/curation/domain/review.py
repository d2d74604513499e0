"""The review queue: what is asked of a person, in which order, and what the answer does to the row."""

import hashlib
from dataclasses import dataclass
from typing import Literal

Kind = Literal["contradiction", "mislabel", "conflict", "quality", "category", "synthetic"]
KINDS: tuple[Kind, ...] = ("contradiction", "mislabel", "conflict", "quality", "category", "synthetic")
PENDING, APPROVED, EDITED, REJECTED = "pending", "approved", "edited", "rejected"
STATES = (PENDING, APPROVED, EDITED, REJECTED)

# Reading speed with judgement, in characters a minute, and what opening an item costs, in minutes.
_READ, _OPEN = 900.0, 0.1
_HELD_OUT = 3.0


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to look at. `doubt` in [0, 1] is how likely the row is wrong; `value` orders the queue.

    `comment` is what users said of the answer; it ends up in `reason`.
    """

    kind: Kind
    row_id: str
    reason: str
    input: str
    answer: str
    category: str | None = None
    suggestion: str = ""
    doubt: float = 0.5
    value: float = 0.0
    lineage: str = ""
    user: str = ""
    comment: str = ""

    @property
    def item_id(self) -> str:
        """The same question about the same content has the same id, so that it is asked once."""
        text = "\x00".join((self.kind, self.row_id, self.input, self.answer, self.category or ""))
        return f"rev-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}"


@dataclass(frozen=True, slots=True)
class Decision:
    """What a reviewer decided on a row; of an edit the fields that are not None replace the row's."""

    row_id: str
    state: str
    answer: str | None = None
    category: str | None = None
    input: str | None = None
    by: str = ""

    @property
    def lets_in(self) -> bool:
        """Whether the row may be used."""
        return self.state in (APPROVED, EDITED)


def value_of(*, doubt: float, rows: int, scarcity: float, held_out: bool, characters: int) -> float:
    """Expected corrections per minute of a reviewer's time.

    The chance that the row is wrong, times the rows it speaks for, times how scarce its category is (1 for an average
    one), three times for a held-out row since it judges every model; over the minutes reading it takes.
    """
    minutes = _OPEN + characters / _READ
    return doubt * rows * scarcity * (_HELD_OUT if held_out else 1.0) / minutes
