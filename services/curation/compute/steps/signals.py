"""One answer per request, and what contradicts itself goes to review."""

from collections.abc import Sequence

from libs.contracts.task import Act
from services.curation.domain import conflicts, judgement
from services.curation.domain.ledger import Ledger
from services.curation.domain.queue import question
from services.curation.domain.rows import Row
from services.curation.domain.steps import Context, Result


class Signals:
    """Reconciles several signals on one request: by ingestion's judgement, or by hand where it gave none."""

    name, version = "signals", 8

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        ledger = Ledger()
        judged = judgement.settle(judgement.heard(rows), ledger, context.decisions)
        by_hand = [row for row in judged.rows if not row.judgement]
        reconciled = conflicts.reconcile(by_hand, ledger, context.approved, context.rejected)
        doubtful = {
            row.row_id: (row, "signals on one answer contradict each other") for row in reconciled.contradicting
        }
        doubtful |= {row.row_id: (row, row.review) for row in judged.rows if row.review}
        facts = {
            "signals": {"requests": judged.requests + reconciled.requests, "contradictions": len(doubtful)},
        }
        questions = []
        if context.spec.data.curation.contradictions is Act.REVIEW:
            questions = [
                question("contradiction", row, reason, doubt=1 - (row.confidence or 0.5))
                for row, reason in doubtful.values()
                if row.row_id not in context.decisions and row.answer is not None
            ]
        return Result(ledger.kept(judged.rows), ledger, facts, questions)


class Confidence:
    """Takes out rows whose signals agree too little; what they amount to is settled before, whether or not they do."""

    name, version = "confidence", 1

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        ledger, least = Ledger(), context.spec.data.curation.min_confidence
        for row in rows:
            if row.confidence is not None and row.confidence < least and not context.approved(row.row_id):
                ledger.remove(row, "low_confidence", f"{row.confidence:.2f}, the least is {least:.2f}")
        return Result(ledger.kept(rows), ledger)
