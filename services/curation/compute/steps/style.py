"""Style rules of the task, as regular expressions on answers."""

import re
from collections.abc import Sequence
from dataclasses import replace

from libs.contracts.errors import InvalidInput
from services.curation.domain.ledger import Ledger
from services.curation.domain.rows import Row
from services.curation.domain.steps import Context, Result


class Style:
    """Cuts out what the task does not want to hear, and takes out answers that say what is forbidden."""

    name, version = "style", 3

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`; InvalidInput names an expression that is none."""
        style = context.spec.data.curation.style
        remove, forbid = _compiled(style.remove, "remove"), _compiled(style.forbid, "forbid")
        ledger, edited = Ledger(), []
        for row in rows:
            answer = row.answer
            # What was wrong is learnt as it was said.
            if answer is None or row.label is False or not (remove or forbid):
                edited.append(row)
                continue
            hit = next((each.pattern for each in forbid if each.search(answer)), None)
            if hit is not None and "style_forbidden" not in context.undone:
                ledger.remove(row, "style_forbidden", hit)
                continue
            for each in remove:
                answer = each.sub("", answer)
            answer = answer.strip() if answer != row.answer else answer
            if answer != row.answer:
                ledger.edit(row, "style_removed")
            edited.append(replace(row, answer=answer) if answer != row.answer else row)
        return Result(edited, ledger)


def _compiled(patterns: Sequence[str], field: str) -> list[re.Pattern[str]]:
    compiled = []
    for at, pattern in enumerate(patterns):
        try:
            compiled.append(re.compile(pattern))
        except re.error as error:
            place = f"data.curation.style.{field}[{at}]"
            raise InvalidInput(f"{pattern!r} is no regular expression: {error}", field=place) from error
    return compiled
