"""A step of curation: rows in, rows and ledger entries out; and how steps make a pipeline that loses nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from libs.contracts.errors import DataLoss
from libs.contracts.task import SplitSpec, TaskSpec
from services.curation.domain.ledger import Ledger
from services.curation.domain.review import REJECTED, Decision, Question
from services.curation.domain.rows import Row
from services.curation.domain.rules import Outcome, rule_of
from services.curation.domain.suite import Item


@dataclass(frozen=True, slots=True)
class Context:
    """What every step may know beside the rows; nothing in it changes during a build.

    `secret` is what the tenant's pseudonyms are keyed by. `placed` says the permanent group and split of rows that an
    earlier version knew, `erased` holds hashes of users, `erased_rows` rows and `erased_items` items of theirs, and
    items of rows whose consent was taken back, `suites` items of other evaluation suites and `coverage` what there is
    to say of each of these, `verdicts` scores by the key of what was judged.
    """

    spec: TaskSpec
    tenant: str
    salt: str
    secret: bytes = field(repr=False)
    fractions: SplitSpec
    undone: frozenset[str] = frozenset()
    placed: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    erased: frozenset[str] = frozenset()
    erased_rows: frozenset[str] = frozenset()
    erased_items: frozenset[str] = frozenset()
    suite: Sequence[Item] | None = None
    suites: Sequence[Item] = ()
    coverage: Sequence[Mapping[str, Any]] = ()
    verdicts: Mapping[str, int] = field(default_factory=dict)

    def approved(self, row_id: str) -> bool:
        """Whether a reviewer let the row in: no suspicion keeps it out again."""
        found = self.decisions.get(row_id)
        return found is not None and found.lets_in

    def rejected(self, row_id: str) -> bool:
        """Whether a reviewer keeps the row out."""
        found = self.decisions.get(row_id)
        return found is not None and found.state == REJECTED


@dataclass(slots=True)
class Result:
    """What a step gives back: the rows left, what it did to the others, figures for the report, and open questions."""

    rows: list[Row]
    ledger: Ledger
    facts: dict[str, Any] = field(default_factory=dict)
    questions: list[Question] = field(default_factory=list)


class Step(Protocol):
    """A named unit of curation; its version rises when the same rows would come out otherwise."""

    name: str
    version: int

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """Do it; the rows given stay as they are."""
        ...


def run(steps: Sequence[Step], rows: Sequence[Row], context: Context) -> Result:
    """Run the steps in order; DataLoss when one loses or changes a row without an entry in the ledger.

    What an undone rule removed or changed is put back after its step.
    """
    whole = Result(list(rows), Ledger(len(rows)))
    for step in steps:
        result = step(whole.rows, context)
        whole.rows = _settled(step, whole.rows, result, context.undone)
        whole.ledger.take(result.ledger, context.undone)
        whole.facts |= result.facts
        whole.questions += result.questions
    return whole


def _settled(step: Step, before: Sequence[Row], result: Result, undone: frozenset[str]) -> list[Row]:
    after = {row.row_id: row for row in result.rows}
    edited = {entry.row_id: entry.rule for entry in result.ledger.entries}
    alone: set[str] = set()
    for entry in result.ledger.entries:
        if rule_of(entry.rule).step != step.name:
            raise DataLoss(f"step {step.name!r} used the rule {entry.rule!r} of another step", field="rule")
        if entry.outcome is Outcome.MERGED and entry.rule in undone:
            alone.add(entry.other)
    rows: list[Row] = []
    for row in before:
        now = after.pop(row.row_id, None)
        removed = result.ledger.removed.get(row.row_id)
        if (now is None) != (removed is not None):
            state = "lost" if now is None else "removed and kept"
            raise DataLoss(f"step {step.name!r} {state} row {row.row_id}", field="row_id")
        if now is not None and row.row_id in alone:
            # A step merges by one rule: with that undone, the row stands for those alone that it stood for before.
            now = replace(now, stands_for=row.stands_for, weight=row.weight)
        if now is None:
            if removed in undone:
                rows.append(row)
        elif now is row or now.content == row.content:
            rows.append(now)
        elif row.row_id not in edited:
            raise DataLoss(f"step {step.name!r} changed row {row.row_id} and does not say so", field="row_id")
        else:
            rows.append(replace(row, stands_for=now.stands_for) if edited[row.row_id] in undone else now)
    if after:
        raise DataLoss(f"step {step.name!r} made up row {next(iter(after))}", field="row_id")
    return rows
