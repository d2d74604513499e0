"""When signals contradict each other: on one request, and on one input."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from libs.contracts.answers import canonical_answer
from services.curation.domain.rows import CORRECTION, SYNTHETIC, Ledger, Row, trust


@dataclass(frozen=True, slots=True)
class Reconciled:
    """How many requests had several signals, and the rows that stand for those whose signals contradict each other."""

    requests: int
    contradicting: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Dispute:
    """Rows with the same text and different answers, the most voted first; `winner` is None on a tie."""

    rows: tuple[Row, ...]
    winner: Row | None


def reconcile(rows: Sequence[Row], ledger: Ledger, approved: Callable[[str], bool]) -> Reconciled:
    """One answer per request: the one a reviewer let in, the latest correction, the latest preference, else praise
    nobody contradicted.
    """
    by_request: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.request_id:
            by_request[row.request_id].append(row)
    met = [group for group in by_request.values() if len(group) > 1]
    contradicting = []
    for group in met:
        answers = [row for row in group if row.answer is not None and row.label is not False]
        blamed = any(row.signal == "bad" and (row.answer is None or row.label is False) for row in group)
        given = {canonical_answer(row.answer or "") for row in answers}
        praised = [row for row in answers if trust(row) == 1]
        if not answers:
            continue
        best = max(answers, key=lambda row: (approved(row.row_id), trust(row), row.created_at, row.row_id))
        if len(given) > 1 or (blamed and praised):
            contradicting.append(best)
        for row in answers:
            if row is not best:
                detail = f"{best.kind} {best.row_id} on the same request stands"
                ledger.remove(row, "superseded_signal", detail, other=best.row_id)
        if trust(best) == 1 and blamed and not approved(best.row_id):
            ledger.remove(best, "contradicted_praise", "the same answer was blamed too")
    return Reconciled(len(met), tuple(contradicting))


def merge_exact(rows: Sequence[Row], key: Callable[[Row], str], ledger: Ledger) -> list[Row]:
    """Keep the first of rows with the same text and answer; it stands for the others from now on."""
    first: dict[tuple[str, str, bool], Row] = {}
    standing: Counter[str] = Counter()
    for row in rows:
        kept = first.setdefault((key(row), canonical_answer(row.answer or ""), row.label is False), row)
        standing[kept.row_id] += row.stands_for
        if kept is not row:
            ledger.remove(row, "exact_duplicate", f"of {kept.row_id}", other=kept.row_id)
    return [replace(row, stands_for=standing[row.row_id]) for row in ledger.kept(rows)]


def resolve_labels(
    rows: Sequence[Row], key: Callable[[Row], str], ledger: Ledger, approved: Callable[[str], bool]
) -> list[Dispute]:
    """One answer per text: one a reviewer let in, else the one most rows give; on a tie the newest correction, and
    with none nobody's.
    """
    by_text: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.label is not False:
            by_text[key(row)].append(row)
    seen: list[Dispute] = []
    for group in by_text.values():
        if len(group) < 2:
            continue
        # What a teacher wrote has no vote against what people said.
        ranked = sorted(
            group, key=lambda row: (not approved(row.row_id), row.kind == SYNTHETIC, -row.stands_for, row.row_id)
        )
        rivals = [row for row in ranked[1:] if (row.kind == SYNTHETIC) == (ranked[0].kind == SYNTHETIC)]
        winner: Row | None = ranked[0]
        if not approved(ranked[0].row_id) and rivals and ranked[0].stands_for == rivals[0].stands_for:
            tied = [row for row in ranked if row.stands_for == ranked[0].stands_for and row.kind == CORRECTION]
            winner = max(tied, key=lambda row: (row.created_at, row.row_id), default=None)
        for row in group:
            if winner is None:
                ledger.remove(row, "label_conflict_tie", "the same text has another answer as often")
            elif row is not winner:
                detail = f"{winner.row_id} has another answer for the same text"
                ledger.remove(row, "label_conflict_lost", detail, other=winner.row_id)
        seen.append(Dispute(tuple(ranked), winner))
    return seen
