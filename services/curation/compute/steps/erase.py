"""Rows of a subject who asked for erasure never come back, whatever segment they stand in."""

from collections.abc import Sequence

from services.curation.domain.ledger import Ledger
from services.curation.domain.rows import Row
from services.curation.domain.steps import Context, Result


class Erase:
    """Takes out rows of erased users; the ledger keeps that it did and not what they said."""

    name, version = "erase", 2

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        ledger = Ledger()
        for row in rows:
            if not context.erased.isdisjoint((row.user, row.subject)):
                ledger.remove(row, "erased_subject")
        ledger.examples.clear()
        return Result(ledger.kept(rows), ledger)
