"""A row on its way into a dataset version, and the ledger in which every row ends."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime

EXAMPLE = "example"
CORRECTION = "correction"
_SHOWN_EXAMPLES = 5
_SHOWN_CHARACTERS = 200


@dataclass(slots=True)
class Row:
    """One row of the segments, in order of arrival; text fields change as it is repaired and redacted.

    `history` is the JSON of the turns before `input`, `answer` what is to be learnt (None: nothing is).
    """

    row_id: str
    kind: str
    source: str
    input: str
    answer: str | None
    signal: str
    created_at: datetime
    system: str | None = None
    history: str | None = None
    category: str | None = None
    group: str | None = None
    request_id: str | None = None
    consent: bool | None = None


@dataclass(slots=True)
class Ledger:
    """Where every row ends: kept, or removed once for one reason; the counts reconcile exactly."""

    total: int
    removed: dict[str, str] = field(default_factory=dict)
    """Reason by row id."""
    examples: dict[str, list[dict[str, str]]] = field(default_factory=lambda: defaultdict(list))

    def remove(self, row: Row, reason: str, detail: str = "") -> None:
        """Take a row out; the first reason stands."""
        if row.row_id in self.removed:
            return
        self.removed[row.row_id] = reason
        shown = self.examples[reason]
        if len(shown) < _SHOWN_EXAMPLES:
            example = {"row_id": row.row_id, "input": row.input[:_SHOWN_CHARACTERS]}
            shown.append(example | ({"detail": detail[:_SHOWN_CHARACTERS]} if detail else {}))

    def kept(self, rows: list[Row]) -> list[Row]:
        """Those of `rows` that are still in."""
        return [row for row in rows if row.row_id not in self.removed]

    def reasons(self) -> dict[str, int]:
        """Rows per reason."""
        return dict(sorted(Counter(self.removed.values()).items()))


def trust(row: Row) -> int:
    """How far a row's answer is trusted: what somebody wrote outranks what somebody approved."""
    return {CORRECTION: 3, "preference": 2}.get(row.kind, 1)
