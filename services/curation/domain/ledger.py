"""The ledger: where every input row ends, by which rule, and on what evidence; its counts reconcile exactly."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from libs.contracts.errors import DataLoss
from services.curation.domain.rules import RULES, Outcome, rule_of

_SHOWN_EXAMPLES = 5
_SHOWN_CHARACTERS = 200


class Named(Protocol):
    """Anything that is a row to the ledger."""

    @property
    def row_id(self) -> str:
        """The row's id."""
        ...

    @property
    def input(self) -> str:
        """The row's text."""
        ...


R = TypeVar("R", bound=Named)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened to a row. `evidence` quotes no text of the row; `other` is the row it was measured by."""

    row_id: str
    rule: str
    evidence: str = ""
    other: str = ""

    @property
    def outcome(self) -> Outcome:
        """What the rule does to a row."""
        return rule_of(self.rule).outcome


@dataclass(slots=True)
class Ledger:
    """Entries in order; a row is removed once, and the first rule that removed it stands."""

    total: int = 0
    entries: list[Entry] = field(default_factory=list)
    removed: dict[str, str] = field(default_factory=dict)
    """Rule by row id."""
    examples: dict[str, list[dict[str, str]]] = field(default_factory=lambda: defaultdict(list))

    def remove(self, row: Named, reason: str, detail: str = "", other: str = "") -> None:
        """Take a row out by the rule `reason` (merged or quarantined, as the rule says)."""
        if row.row_id in self.removed:
            return
        self.removed[row.row_id] = reason
        self.entries.append(Entry(row.row_id, reason, detail[:_SHOWN_CHARACTERS], other))
        shown = self.examples[reason]
        if len(shown) < _SHOWN_EXAMPLES:
            # Whole: what is cut in two cannot be redacted any more.
            shown.append({"row_id": row.row_id, "input": row.input} | ({"detail": detail} if detail else {}))

    def edit(self, row: Named, reason: str, detail: str = "") -> None:
        """Note that the rule `reason` changed a row."""
        self.entries.append(Entry(row.row_id, reason, detail[:_SHOWN_CHARACTERS]))

    def kept(self, rows: Iterable[R]) -> list[R]:
        """Those of `rows` that are still in."""
        return [row for row in rows if row.row_id not in self.removed]

    def reasons(self) -> dict[str, int]:
        """Rows removed, per rule."""
        return dict(sorted(Counter(self.removed.values()).items()))

    def edits(self) -> dict[str, int]:
        """Rows edited, per rule; a row removed later counts too."""
        counted = Counter(each.rule for each in self.entries if each.outcome is Outcome.EDITED)
        return dict(sorted(counted.items()))

    def take(self, step: "Ledger", undone: frozenset[str]) -> None:
        """Enter what a step did, but for rules that are undone."""
        kept = [entry for entry in step.entries if entry.rule not in undone]
        self.entries += kept
        for entry in kept:
            if entry.outcome in (Outcome.MERGED, Outcome.QUARANTINED):
                self.removed.setdefault(entry.row_id, entry.rule)
        for reason, shown in step.examples.items():
            if reason not in undone:
                self.examples[reason] += shown[: _SHOWN_EXAMPLES - len(self.examples[reason])]

    def quoted(self) -> dict[str, list[dict[str, str]]]:
        """Examples of rows that rules removed, each text cut to what a page shows; none but the id where it may not be
        quoted.
        """
        return {
            rule: [{name: text[:_SHOWN_CHARACTERS] for name, text in each.items()} for each in self.examples[rule]]
            for rule in self.reasons()
        }

    def finals(self, row_ids: Sequence[str]) -> list[Entry]:
        """The entry each input row ends by, in the order of the rows."""
        last: dict[str, Entry] = {}
        for entry in self.entries:
            ended = last.get(entry.row_id)
            if ended is None or ended.outcome is Outcome.EDITED:
                last[entry.row_id] = entry
        return [last.get(row_id) or Entry(row_id, RULES["kept"].name) for row_id in row_ids]


def reconcile(ledger: Ledger, row_ids: Sequence[str], published: Sequence[str]) -> dict[str, int]:
    """Rows per outcome; DataLoss, naming the row, unless every input row ends once and what is kept is published."""
    known = set(row_ids)
    if len(known) != len(row_ids):
        twice = next(name for name, count in Counter(row_ids).items() if count > 1)
        raise DataLoss(f"row {twice} came in twice", field="row_id")
    stray = next((entry for entry in ledger.entries if entry.row_id not in known), None)
    if stray is not None:
        raise DataLoss(f"rule {stray.rule} speaks of row {stray.row_id}, which never came in", field="row_id")
    finals = ledger.finals(row_ids)
    staying = {entry.row_id for entry in finals if entry.outcome in (Outcome.KEPT, Outcome.EDITED)}
    if len(published) != len(set(published)):
        raise DataLoss("a row is published twice", field="row_id")
    lost = sorted(staying ^ set(published))
    if lost:
        state = "published although it was removed" if lost[0] not in staying else "kept but not published"
        raise DataLoss(f"the ledger does not reconcile: row {lost[0]} is {state} ({len(lost)} rows)", field="row_id")
    for entry in finals:
        if entry.outcome is Outcome.MERGED and entry.other not in known:
            raise DataLoss(f"row {entry.row_id} is merged into {entry.other or 'nothing'}", field="other")
    counted = Counter(str(entry.outcome) for entry in finals)
    return {str(outcome): counted[str(outcome)] for outcome in Outcome}
