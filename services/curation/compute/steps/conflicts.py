"""One row per text and answer, and one answer per text."""

from collections.abc import Hashable, Sequence

from services.curation.domain import conflicts
from services.curation.domain.identity import Identity
from services.curation.domain.ledger import Ledger
from services.curation.domain.queue import question
from services.curation.domain.rows import Row
from services.curation.domain.steps import Context, Result

_SHOWN = 5
_TIE = "label_conflict_tie"


class Exact:
    """Merges rows that ask the same, to a reader, and teach the same, within a split; those of several categories only
    within each.
    """

    name, version = "exact", 5

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        ledger, same = Ledger(), Identity(context.spec)
        keys = {row.row_id: same.pair(row) for row in rows}
        disputed = conflicts.categories_of(rows, lambda row: keys[row.row_id])

        def key(row: Row) -> Hashable:
            found = keys[row.row_id]
            return row.split, found, row.category if found in disputed else None

        return Result(conflicts.merge_exact(rows, key, ledger), ledger)


class Conflicts:
    """Settles texts with several answers by vote, within a split; ties go to review."""

    name, version = "conflicts", 5

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        ledger, same = Ledger(), Identity(context.spec)
        seen = conflicts.resolve_labels(rows, lambda row: (row.split, *same.disputed(row)), ledger, context.approved)
        examples = [
            {"input": each.rows[0].input[:200], "answers": [str(row.answer)[:200] for row in each.rows[:_SHOWN]]}
            for each in seen[:_SHOWN]
        ]
        questions = [
            question(
                "conflict", row, "the same text has another answer as often", doubt=1 - 1 / len(each.rows),
                suggestion=next(str(other.answer) for other in each.rows if other is not row),
            )
            for each in seen
            if each.winner is None and "label_conflict_tie" not in context.undone
            for row in each.rows
            if row.row_id not in context.decisions
        ]  # fmt: skip
        if _TIE in context.undone:
            questions = []
        facts = {"label_conflicts": {"texts": len(seen), "examples": examples}}
        return Result(ledger.kept(rows), ledger, facts, questions)
