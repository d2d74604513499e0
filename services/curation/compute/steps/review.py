"""What reviewers decided: edits enter, rejected rows leave."""

from collections.abc import Sequence
from dataclasses import replace

from services.curation.domain.ledger import Ledger
from services.curation.domain.review import EDITED, REJECTED
from services.curation.domain.rows import Row
from services.curation.domain.steps import Context, Result


class Reviewed:
    """Applies the decisions on rows; who decided is the evidence."""

    name, version = "review", 1

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        ledger, edited = Ledger(), []
        for row in rows:
            decision = context.decisions.get(row.row_id)
            now = row
            if decision is not None and decision.state == REJECTED:
                ledger.remove(row, "review_rejected", f"by {decision.by}")
                continue
            if decision is not None and decision.state == EDITED:
                now = replace(
                    row,
                    input=row.input if decision.input is None else decision.input,
                    answer=row.answer if decision.answer is None else decision.answer,
                    category=row.category if decision.category is None else decision.category,
                )
                if now != row:
                    ledger.edit(row, "review_edited", f"by {decision.by}")
            edited.append(now)
        return Result(edited, ledger)
