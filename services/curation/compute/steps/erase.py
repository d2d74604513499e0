"""Rows of a subject who asked for erasure never come back, whatever segment they stand in."""

from collections.abc import Sequence

from services.curation.domain.ledger import Ledger
from services.curation.domain.rows import Row, seeds_of
from services.curation.domain.rules import ERASED
from services.curation.domain.steps import Context, Result


class Erase:
    """Takes out rows of erased users and what a teacher made of them; the ledger keeps that it did, not what they said.

    A teacher may have been asked before the erasure and answered after it.
    """

    name, version = "erase", 3

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        ledger = Ledger()
        for row in rows:
            mine = not context.erased.isdisjoint((row.user, row.subject)) or row.row_id in context.erased_rows
            if mine or not context.erased_rows.isdisjoint(seeds_of(row)):
                ledger.remove(row, ERASED)
        ledger.examples.clear()
        return Result(ledger.kept(rows), ledger)
