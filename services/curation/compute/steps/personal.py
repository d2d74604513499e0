"""Personal data: redacted to pseudonyms, dropped or kept, as the policy says per kind."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from services.curation.compute.redaction import Redaction
from services.curation.domain.ledger import Ledger
from services.curation.domain.rows import Row, texts_of
from services.curation.domain.rules import PERSONAL
from services.curation.domain.steps import Context, Result


class Personal:
    """Replaces personal data; a value has one name throughout the task, keyed by the tenant's secret."""

    name, version = "personal", 7

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        said = [texts_of(row) for row in rows]
        redaction = Redaction(context, chain.from_iterable(said))
        declared = frozenset(context.spec.data.curation.taxonomy.categories)
        given = {row.category for row in rows if row.category} - declared
        categories = Redaction.of_labels(context, given)
        kinds: Counter[str] = Counter()
        ledger, edited = Ledger(), []
        for row, mine in zip(rows, said, strict=True):
            own = [row.category] if row.category in given else []
            found = [*redaction.kinds(mine, row.named), *categories.kinds(own)]
            kinds.update(found)
            dropped = redaction.dropped(found)
            if dropped is not None:
                ledger.remove(row, f"{PERSONAL}{dropped}")
            elif found:
                counted = sorted(Counter(found).items())
                ledger.edit(row, "personal_data_redacted", ", ".join(f"{count} {kind}" for kind, count in counted))
                now = redaction.rewritten(row)
                edited.append(replace(now, category=categories.clean(own[0])) if own else now)
            else:
                edited.append(row)
        # A row dropped for what it holds must not be quoted for it either.
        ledger.examples.clear()
        return Result(edited, ledger, {"redacted": dict(sorted(kinds.items()))})
