"""Personal data: redacted to pseudonyms, dropped or kept, as the policy says per kind."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from services.curation.domain.ledger import Ledger
from services.curation.domain.redact import Pseudonyms, dropped, redact
from services.curation.domain.rows import Row, history_of, turns_of
from services.curation.domain.rules import PERSONAL
from services.curation.domain.steps import Context, Result


class Personal:
    """Replaces personal data, the same value by the same name throughout a row."""

    name, version = "personal", 1

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        policy, found, ledger, edited = context.spec.data.redact, Counter[str](), Ledger(), []
        for row in rows:
            names = Pseudonyms()
            turns = [
                {**turn, "content": redact(turn["content"], policy, names)}
                if isinstance(turn.get("content"), str)
                else turn
                for turn in turns_of(row.history)
            ]
            text = redact(row.input, policy, names)
            answer = redact(row.answer, policy, names) if row.answer is not None else None
            rejected = redact(row.rejected, policy, names) if row.rejected is not None else None
            found.update(names.found)
            kind = dropped(policy, names)
            if kind is not None:
                ledger.remove(row, f"{PERSONAL}{kind}")
            elif names.found:
                ledger.edit(
                    row, "personal_data_redacted", ", ".join(f"{n} {k}" for k, n in sorted(names.found.items()))
                )
                history = history_of(turns) if row.history else None
                edited.append(replace(row, input=text, answer=answer, rejected=rejected, history=history))
            else:
                edited.append(row)
        # A row dropped for what it holds must not be quoted for it either.
        ledger.examples.clear()
        return Result(edited, ledger, {"redacted": dict(sorted(found.items()))})
