"""Which rows may be used at all: something to ask, consent, licence, source."""

import json
from collections.abc import Sequence

from services.curation.compute.redaction import Redaction
from services.curation.compute.steps.repair import clean
from services.curation.domain.ledger import Ledger
from services.curation.domain.rows import EXAMPLE, SYNTHETIC, Row
from services.curation.domain.steps import Context, Result


class Admit:
    """Takes out rows that may not train; imports are always of a trusted source."""

    name, version = "admit", 3

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        ledger, data = Ledger(), context.spec.data
        # Whoever sends a row names its source and licence, and may name them by a person.
        labels = Redaction.labels(context, (label for row in rows for label in (row.licence, row.source)))
        for row in rows:
            foreign = row.kind not in (EXAMPLE, SYNTHETIC)
            if not clean(row.input) and not _is_result(row):
                ledger.remove(row, "no_input")
            elif row.consent is False:
                ledger.remove(row, "no_consent")
            elif data.curation.licences and row.licence is not None and row.licence not in data.curation.licences:
                ledger.remove(row, "licence_not_allowed", labels.get(row.licence, ""))
            elif foreign and data.sources and row.source not in data.sources:
                ledger.remove(row, "source_not_trusted", labels.get(row.source, ""))
        return Result(ledger.kept(rows), ledger)


def _is_result(row: Row) -> bool:
    """Whether the input is what a tool gave back, which may be nothing: the question stands before it."""
    return bool(row.history and row.input_as) and json.loads(row.input_as or "{}").get("role") == "tool"
