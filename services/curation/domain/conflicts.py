"""When signals contradict each other: on one request, and on one input."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from libs.contracts.answers import canonical_answer
from services.curation.domain.rows import CORRECTION, SYNTHETIC, Ledger, Row, trust


@dataclass(frozen=True, slots=True)
class Reconciled:
    """How many requests had several signals, and the rows that stand for those whose signals contradict each other."""

    requests: int
    contradicting: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Dispute:
    """A row for each answer that the same text has, the most voted first; `winner` is None on a tie."""

    rows: tuple[Row, ...]
    winner: Row | None


_NEVER = (datetime.min.replace(tzinfo=UTC), "")


@dataclass(frozen=True, slots=True)
class _Voice:
    """Rows that give one answer to a text, more than one where exact duplicates are not merged; the best is first.

    `votes` counts the rows by their weight: a damped flood, or a source that is trusted little, decides little.
    """

    rows: tuple[Row, ...]
    votes: float
    approved: bool
    synthetic: bool
    corrected: tuple[datetime, str] | None
    """When the newest correction among them came."""

    @property
    def rank(self) -> tuple[bool, bool, float, str]:
        # What a teacher wrote has no vote against what people said.
        return not self.approved, self.synthetic, -self.votes, self.rows[0].row_id

    @classmethod
    def of(cls, rows: Sequence[Row], approved: Callable[[str], bool]) -> "_Voice":
        ranked = sorted(
            rows, key=lambda row: (not approved(row.row_id), row.kind == SYNTHETIC, -_votes(row), row.row_id)
        )
        corrected = [(row.created_at, row.row_id) for row in rows if row.kind == CORRECTION]
        return cls(
            tuple(ranked), round(sum(map(_votes, rows)), 6), approved(ranked[0].row_id),
            all(row.kind == SYNTHETIC for row in rows), max(corrected, default=None),
        )  # fmt: skip


def reconcile(
    rows: Sequence[Row], ledger: Ledger, approved: Callable[[str], bool], rejected: Callable[[str], bool]
) -> Reconciled:
    """One answer per request: the one a reviewer let in, the latest correction, the latest preference, else praise
    nobody contradicted. Where a reviewer rejected that same answer in another row, it is this row that stands.
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
        if not approved(best.row_id):
            said = canonical_answer(best.answer or "")
            known = (row for row in answers if rejected(row.row_id) and canonical_answer(row.answer or "") == said)
            best = next(known, best)
        if len(given) > 1 or (blamed and praised):
            contradicting.append(best)
        for row in answers:
            if row is not best:
                detail = f"{best.kind} {best.row_id} on the same request stands"
                ledger.remove(row, "superseded_signal", detail, other=best.row_id)
        if trust(best) == 1 and blamed and not approved(best.row_id):
            ledger.remove(best, "contradicted_praise", "the same answer was blamed too")
    return Reconciled(len(met), tuple(contradicting))


def categories_of(rows: Sequence[Row], key: Callable[[Row], Hashable]) -> dict[Hashable, dict[str, float]]:
    """By key the categories its rows have, where they have more than one, with their votes by weight."""
    found: dict[Hashable, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for row in rows:
        if row.category:
            found[key(row)][row.category] += _votes(row)
    return {each: dict(votes) for each, votes in found.items() if len(votes) > 1}


def miscategorised(rows: Sequence[Row], key: Callable[[Row], Hashable]) -> list[tuple[Row, str]]:
    """Rows with a category that no more rows of the same key have than have another one, which is told beside it."""
    disputed, found = categories_of(rows, key), []
    for row in rows:
        votes = disputed.get(key(row), {})
        others = {name: count for name, count in votes.items() if name != row.category}
        if row.category and others:
            better = max(sorted(others), key=lambda name: others[name])
            found += [(row, better)] if votes[row.category] <= others[better] else []
    return found


def merge_exact(rows: Sequence[Row], key: Callable[[Row], Hashable], ledger: Ledger) -> list[Row]:
    """Keep the first of rows with the same key; it stands for the others from now on."""
    first: dict[Hashable, Row] = {}
    standing: Counter[str] = Counter()
    votes: dict[str, float] = defaultdict(float)
    for row in rows:
        kept = first.setdefault(key(row), row)
        standing[kept.row_id] += row.stands_for
        votes[kept.row_id] += _votes(row)
        if kept is not row:
            ledger.remove(row, "exact_duplicate", f"of {kept.row_id}", other=kept.row_id)
    return [
        replace(row, stands_for=standing[row.row_id], weight=votes[row.row_id] / standing[row.row_id])
        for row in ledger.kept(rows)
    ]


def _votes(row: Row) -> float:
    return row.stands_for * row.weight


def resolve_labels(
    rows: Sequence[Row], key: Callable[[Row], Hashable], ledger: Ledger, approved: Callable[[str], bool]
) -> list[Dispute]:
    """One answer per key: one a reviewer let in, else the one most rows give, by weight; on a tie the newest
    correction, and with none nobody's.
    """
    by_text: dict[Hashable, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.label is not False:
            by_text[key(row)][canonical_answer(row.answer or "")].append(row)
    seen: list[Dispute] = []
    for group in by_text.values():
        if len(group) < 2:
            continue
        voices = sorted((_Voice.of(said, approved) for said in group.values()), key=lambda each: each.rank)
        best = voices[0]
        rivals = [each for each in voices[1:] if each.synthetic == best.synthetic]
        winner: _Voice | None = best
        if not best.approved and rivals and best.votes == rivals[0].votes:
            tied = [each for each in voices if each.votes == best.votes and each.corrected is not None]
            winner = max(tied, key=lambda each: each.corrected or _NEVER, default=None)
        for voice in voices:
            for row in voice.rows if voice is not winner else ():
                if winner is None:
                    ledger.remove(row, "label_conflict_tie", "the same text has another answer as often")
                else:
                    detail = f"{winner.rows[0].row_id} has another answer for the same text"
                    ledger.remove(row, "label_conflict_lost", detail, other=winner.rows[0].row_id)
        seen.append(Dispute(tuple(each.rows[0] for each in voices), winner.rows[0] if winner else None))
    return seen
