"""Suspected label errors, by the disagreement of equal rows and of a cross-validated model."""

from collections.abc import Sequence

from services.curation.compute.mislabels import checked, suspects
from services.curation.domain.acts import suspect
from services.curation.domain.conflicts import miscategorised
from services.curation.domain.identity import Identity
from services.curation.domain.ledger import Ledger
from services.curation.domain.review import Question
from services.curation.domain.rows import Row, asked
from services.curation.domain.steps import Context, Result


class Labels:
    """Acts on rows whose category equal rows, or a model that did not see them, disagree with."""

    name, version = "labels", 3

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        policy, ledger = context.spec.data.curation.labels, Ledger()
        questions: list[Question] = []
        same = Identity(context.spec)
        disputed = miscategorised(rows, same.pair)
        for row, better in disputed:
            detail = f"{row.category}, and {better} at least as often where the text and answer are the same"
            questions += suspect(
                row, "suspected_mislabel", "mislabel", policy.mislabels, detail, 0.5, ledger, context, suggestion=better
            )
        labelled = [row for row in ledger.kept(rows) if row.category]
        labels = [str(row.category) for row in labelled]
        texts = [asked(row) for row in labelled]
        found = suspects(texts, labels, folds=policy.folds, max_share=policy.max_share)
        for each in found:
            row = labelled[each.at]
            detail = f"{row.category} at {each.own:.2f}, {each.better} at {each.best:.2f}"
            doubt = max(0.05, min(0.95, each.best - each.own))
            questions += suspect(
                row, "suspected_mislabel", "mislabel", policy.mislabels, detail, doubt, ledger, context,
                suggestion=each.better,
            )  # fmt: skip
        facts = {"labels": {"checked": len(checked(labels)), "suspected": len(found), "disputed": len(disputed)}}
        return Result(ledger.kept(rows), ledger, facts, questions)
