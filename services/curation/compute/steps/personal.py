"""Personal data: redacted to pseudonyms, dropped or kept, as the policy says per kind."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain

from services.curation.compute.redaction import Redaction
from services.curation.domain.ledger import Ledger
from services.curation.domain.rows import Row, texts_of
from services.curation.domain.rules import PERSONAL
from services.curation.domain.steps import Context, Result


class Personal:
    """Replaces personal data; a value has one name throughout the task, keyed by the tenant's secret."""

    name, version = "personal", 5

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        said = [texts_of(row) for row in rows]
        redaction = Redaction(context, chain.from_iterable(said))
        kinds: Counter[str] = Counter()
        ledger, edited = Ledger(), []
        for row, mine in zip(rows, said, strict=True):
            found = redaction.kinds(mine, row.named)
            kinds.update(found)
            dropped = redaction.dropped(found)
            if dropped is not None:
                ledger.remove(row, f"{PERSONAL}{dropped}")
            elif found:
                counted = sorted(Counter(found).items())
                ledger.edit(row, "personal_data_redacted", ", ".join(f"{count} {kind}" for kind, count in counted))
                edited.append(redaction.rewritten(row))
            else:
                edited.append(row)
        # A row dropped for what it holds must not be quoted for it either.
        ledger.examples.clear()
        return Result(edited, ledger, {"redacted": dict(sorted(kinds.items()))})
