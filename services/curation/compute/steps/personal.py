"""Personal data: redacted to pseudonyms, dropped or kept, as the policy says per kind."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from services.curation.compute.personal import PatternFinder
from services.curation.domain.ledger import Ledger
from services.curation.domain.personal import DEFAULTS, DROP, KEEP, REDACT, Span, redact
from services.curation.domain.personal_pseudonyms import Pseudonyms
from services.curation.domain.rows import Row, history_of, turns_of
from services.curation.domain.rules import PERSONAL
from services.curation.domain.steps import Context, Result


class Personal:
    """Replaces personal data; a value has one name throughout the task, keyed by the task's salt."""

    name, version = "personal", 2

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        actions = {kind: str(action) for kind, action in context.spec.data.redact.model_dump(mode="json").items()}
        texts = [text for row in rows for text in _texts(row)]
        spans = dict(zip(texts, PatternFinder().find(texts), strict=True))
        names = Pseudonyms(context.salt.encode())
        kinds: Counter[str] = Counter()
        ledger, edited = Ledger(), []
        for row in rows:
            found = [span for text in _texts(row) for span in spans[text] if _action(actions, span) != KEEP]
            dropped = sorted({span.kind for span in found if _action(actions, span) == DROP})
            kinds.update(span.kind for span in found)
            if dropped:
                ledger.remove(row, f"{PERSONAL}{dropped[0]}")
            elif found:
                counted = sorted(Counter(span.kind for span in found).items())
                ledger.edit(row, "personal_data_redacted", ", ".join(f"{count} {kind}" for kind, count in counted))
                edited.append(_redacted(row, actions, names, spans))
            else:
                edited.append(row)
        # A row dropped for what it holds must not be quoted for it either.
        ledger.examples.clear()
        return Result(edited, ledger, {"redacted": dict(sorted(kinds.items()))})


def _action(actions: Mapping[str, str], span: Span) -> str:
    return actions.get(span.kind) or DEFAULTS.get(span.kind, REDACT)


def _texts(row: Row) -> list[str]:
    turns = [turn["content"] for turn in turns_of(row.history) if isinstance(turn.get("content"), str)]
    return [*turns, row.input, *(text for text in (row.answer, row.rejected) if text is not None)]


def _redacted(row: Row, actions: Mapping[str, str], names: Pseudonyms, spans: Mapping[str, Sequence[Span]]) -> Row:
    def clean(text: str) -> str:
        return redact(text, actions, names, spans[text]).text

    turns = [
        {**turn, "content": clean(turn["content"])} if isinstance(turn.get("content"), str) else turn
        for turn in turns_of(row.history)
    ]
    return replace(
        row,
        input=clean(row.input),
        answer=clean(row.answer) if row.answer is not None else None,
        rejected=clean(row.rejected) if row.rejected is not None else None,
        history=history_of(turns) if row.history else None,
    )
