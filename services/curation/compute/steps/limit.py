"""No version holds more rows than the policy allows; the newest stay."""

from collections.abc import Sequence

from services.curation.domain.ledger import Ledger
from services.curation.domain.rows import Row
from services.curation.domain.steps import Context, Result


class Limit:
    """Takes out the oldest rows over `data.max_rows`."""

    name, version = "limit", 1

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        ledger = Ledger()
        for row in rows[: max(0, len(rows) - context.spec.data.max_rows)]:
            ledger.remove(row, "over_max_rows")
        return Result(ledger.kept(rows), ledger)
