"""When signals contradict each other: on one request, and on one input."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from libs.contracts.answers import canonical_answer
from services.curation.domain.rows import CORRECTION, Ledger, Row, trust


@dataclass(frozen=True, slots=True)
class Reconciled:
    """How often signals on one request met, and how often they contradicted each other."""

    requests: int = 0
    contradictions: int = 0


def reconcile(rows: Sequence[Row], ledger: Ledger) -> Reconciled:
    """One answer per request: the latest correction, else the latest preference, else praise nobody contradicted."""
    by_request: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.request_id and row.row_id not in ledger.removed:
            by_request[row.request_id].append(row)
    met = [group for group in by_request.values() if len(group) > 1]
    contradictions = 0
    for group in met:
        answers = [row for row in group if row.answer is not None]
        blamed = any(row.signal == "bad" and row.answer is None for row in group)
        given = {canonical_answer(row.answer or "") for row in answers}
        praised = [row for row in answers if trust(row) == 1]
        contradictions += len(given) > 1 or bool(blamed and praised)
        if not answers:
            continue
        best = max(answers, key=lambda row: (trust(row), row.created_at, row.row_id))
        for row in answers:
            if row is not best:
                ledger.remove(row, "superseded_signal", f"{best.kind} {best.row_id} on the same request stands")
        if trust(best) == 1 and blamed:
            ledger.remove(best, "contradicted_praise", "the same answer was blamed too")
    return Reconciled(len(met), contradictions)


def merge_exact(rows: Sequence[Row], key: Callable[[Row], str], ledger: Ledger) -> dict[str, int]:
    """Keep the first of rows with the same text and answer; returns how many rows each kept one stands for."""
    first: dict[tuple[str, str], Row] = {}
    standing: Counter[str] = Counter()
    for row in rows:
        kept = first.setdefault((key(row), canonical_answer(row.answer or "")), row)
        standing[kept.row_id] += 1
        if kept is not row:
            ledger.remove(row, "exact_duplicate", f"of {kept.row_id}")
    return dict(standing)


def resolve_labels(
    rows: Sequence[Row], key: Callable[[Row], str], votes: dict[str, int], ledger: Ledger
) -> list[dict[str, object]]:
    """One answer per text: the one most rows give; on a tie the newest correction, and with none nobody's.

    `votes` says how many rows each of `rows` stands for. Returns examples of what was in conflict.
    """
    by_text: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_text[key(row)].append(row)
    seen: list[dict[str, object]] = []
    for group in by_text.values():
        if len(group) < 2:
            continue
        ranked = sorted(group, key=lambda row: (-votes.get(row.row_id, 1), row.row_id))
        seen.append({"input": group[0].input[:200], "answers": [str(row.answer)[:200] for row in ranked[:5]]})
        winner: Row | None = ranked[0]
        if votes.get(ranked[0].row_id, 1) == votes.get(ranked[1].row_id, 1):
            top = votes.get(ranked[0].row_id, 1)
            tied = [row for row in ranked if votes.get(row.row_id, 1) == top and row.kind == CORRECTION]
            winner = max(tied, key=lambda row: (row.created_at, row.row_id), default=None)
        for row in group:
            if winner is None:
                ledger.remove(row, "label_conflict_tie", "the same text has another answer as often")
            elif row is not winner:
                ledger.remove(row, "label_conflict_lost", f"{winner.row_id} has another answer for the same text")
    return seen
