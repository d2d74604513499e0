"""What follows from a suspicion: nothing, a question, a row held back until it is answered, or a row dropped."""

from libs.contracts.task import Act
from services.curation.domain.ledger import Ledger
from services.curation.domain.queue import question
from services.curation.domain.review import Kind, Question
from services.curation.domain.rows import Row
from services.curation.domain.steps import Context


def suspect(
    row: Row,
    rule: str,
    kind: Kind,
    act: Act,
    detail: str,
    doubt: float,
    ledger: Ledger,
    context: Context,
    *,
    suggestion: str = "",
) -> list[Question]:
    """Do what `act` says with a suspicious row; a row that a reviewer let in is beyond suspicion."""
    if act is Act.KEEP or context.approved(row.row_id) or rule in context.undone:
        return []
    if act in (Act.HOLD, Act.DROP):
        ledger.remove(row, rule, detail)
    if act is Act.DROP or row.row_id in context.decisions:
        return []
    return [question(kind, row, f"{rule}: {detail}", doubt=doubt, suggestion=suggestion)]
