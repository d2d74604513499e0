"""What reviewers decided: edits enter, redacted as any text is, and rejected rows leave."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from services.curation.compute.redaction import Redaction
from services.curation.domain.ledger import Ledger
from services.curation.domain.review import EDITED, REJECTED, Decision
from services.curation.domain.rows import Row
from services.curation.domain.steps import Context, Result


class Reviewed:
    """Applies the decisions on rows; who decided is the evidence.

    A reviewer may write what no row held, so that an edit passes the same policy; the pseudonyms that he read in the
    row are none of his and stay.
    """

    name, version = "review", 4

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        ledger, edited = Ledger(), []
        edits = [each for each in context.decisions.values() if each.state == EDITED]
        texts = Redaction(context, (text for each in edits for text in _texts(each))) if edits else None
        declared = context.spec.data.curation.taxonomy.categories
        labels = Redaction.of_labels(context, {each.category for each in edits if each.category} - {*declared})
        for row in rows:
            decision = context.decisions.get(row.row_id)
            if decision is not None and decision.state == REJECTED:
                ledger.remove(row, "review_rejected", f"by {decision.by}")
                continue
            if decision is None or decision.state != EDITED or texts is None:
                edited.append(row)
                continue
            own = [decision.category] if decision.category and decision.category not in declared else []
            found = [*texts.kinds(_texts(decision), row.named), *labels.kinds(own)]
            dropped = texts.dropped(found)
            if dropped is not None:
                ledger.remove(row, "review_personal_data", f"{dropped}, by {decision.by}")
                continue
            given = {"input": decision.input, "answer": decision.answer}
            new: dict[str, Any] = {
                name: texts.clean(text, row.named) for name, text in given.items() if text is not None
            }
            if decision.category is not None:
                new["category"] = labels.clean(decision.category) if own else decision.category
            if row.label is False and new.get("answer", row.answer) != row.answer:
                # What a reviewer wrote in the place of a wrong answer is none.
                new["label"] = None
            now = replace(row, **new)
            if now != row:
                counted = "".join(f", {count} {kind} redacted" for kind, count in sorted(Counter(found).items()))
                ledger.edit(row, "review_edited", f"by {decision.by}{counted}")
            edited.append(now)
        # Who decided stands in the ledger, and is nobody's business who reads a report.
        for shown in ledger.examples.values():
            for example in shown:
                example.pop("detail")
        return Result(edited, ledger)


def _texts(decision: Decision) -> list[str]:
    return [text for text in (decision.input, decision.answer) if text is not None]
