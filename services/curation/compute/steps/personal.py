"""Personal data: redacted to pseudonyms, dropped or kept, as the policy says per kind."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain

from libs.contracts.pseudonyms import Pseudonyms, naming_key
from services.curation.compute.engines import finder_of
from services.curation.domain.ledger import Ledger
from services.curation.domain.personal import DROP, KEEP, KINDS, NAMES, redact
from services.curation.domain.rows import Row, rewritten
from services.curation.domain.rules import PERSONAL
from services.curation.domain.steps import Context, Result


class Personal:
    """Replaces personal data; a value has one name throughout the task, keyed by the tenant's secret."""

    name, version = "personal", 5

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        actions = {kind: str(action) for kind, action in context.spec.data.redact.model_dump(mode="json").items()}
        said = [_texts(row) for row in rows]
        texts = list(dict.fromkeys(chain.from_iterable(said)))
        spans = dict(zip(texts, finder_of(context.spec).find(texts, (*KINDS, *NAMES)), strict=True))
        key = naming_key(context.secret, context.tenant, context.spec.task)
        names = Pseudonyms(key, context.spec.data.curation.pseudonyms)
        kinds: Counter[str] = Counter()
        ledger, edited = Ledger(), []

        def clean(text: str) -> str:
            return redact(text, actions, names, spans[text]).text

        for row, mine in zip(rows, said, strict=True):
            found = [span for text in mine for span in spans[text] if actions[span.kind] != KEEP]
            dropped = sorted({span.kind for span in found if actions[span.kind] == DROP})
            kinds.update(span.kind for span in found)
            if dropped:
                ledger.remove(row, f"{PERSONAL}{dropped[0]}")
            elif found:
                counted = sorted(Counter(span.kind for span in found).items())
                ledger.edit(row, "personal_data_redacted", ", ".join(f"{count} {kind}" for kind, count in counted))
                edited.append(rewritten(row, clean))
            else:
                edited.append(row)
        # A row dropped for what it holds must not be quoted for it either.
        ledger.examples.clear()
        return Result(edited, ledger, {"redacted": dict(sorted(kinds.items()))})


def _texts(row: Row) -> list[str]:
    """Every text of the row that `rewritten` may change."""
    found: list[str] = []

    def note(text: str) -> str:
        found.append(text)
        return text

    rewritten(row, note)
    return found
