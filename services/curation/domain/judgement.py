"""What ingestion says all signals on one request amount to, where it says so."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from libs.contracts.answers import canonical_answer
from libs.contracts.feedback import FLOOD, OWN_OUTPUT
from services.curation.domain.ledger import Ledger
from services.curation.domain.review import REJECTED, Decision
from services.curation.domain.rows import Row


@dataclass(frozen=True, slots=True)
class Judged:
    """Rows left, and how many requests were judged."""

    rows: list[Row]
    requests: int


def settle(rows: Sequence[Row], ledger: Ledger, decisions: Mapping[str, Decision]) -> Judged:
    """Of several rows on a request the one with the newest judgement stands, and says what the judgement says.

    What a reviewer decided outlasts later signals: a row that he let in stands before all others, and one that he
    rejected before those that would teach the same answer, so that its rejection is theirs.

    Rows without a judgement are left as they are, unless a later revision on their request has one: of signals that
    came together the last has it. Whoever may not be heard (erased, without consent, not trusted) must have left
    before: a judgement that heard one of them, or that did not hear one who is left, is no judgement, and the rows
    left are to be judged by hand.
    """
    by_request: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.request_id and (row.judgement or row.revision is not None):
            by_request[row.request_id].append(row)
    here = {row.row_id for row in rows}
    standing: dict[str, Row] = {}
    judged = 0
    for group in by_request.values():
        judging = [row for row in group if row.judgement]
        if not judging:
            continue
        best = _standing(judging, decisions)
        said = _read(best.judgement)
        unheard = max(row.revision or 0 for row in group) > max(row.revision or 0 for row in judging)
        if unheard or (said is not None and not here.issuperset(filter(None, said.get("rows", ())))):
            standing |= {row.row_id: _unjudged(row) for row in group}
            continue
        judged += 1
        now = _under_terms(_spoken(best, said), _giver(group, best, said))
        standing[best.row_id] = now
        if now.content != best.content:
            ledger.edit(
                best, "signals_reconciled", f"{said.get('good', 0)} good, {said.get('bad', 0)} bad" if said else ""
            )
        says = "a reviewer decided on it" if best.row_id in decisions else "says what all signals say"
        for row in group:
            if row is not best:
                ledger.remove(row, "superseded_signal", f"{best.row_id} {says}", other=best.row_id)
    left = [standing.get(row.row_id, row) for row in rows if row.row_id not in ledger.removed]
    return Judged(left, judged)


def _unjudged(row: Row) -> Row:
    """The row as its own signal has it: what others said of the answer is gone, a doubt about this signal is not."""
    own = row.review if row.review and (not row.judgement or row.review.startswith((OWN_OUTPUT, FLOOD))) else None
    return replace(row, judgement=None, confidence=None, review=own)


def _standing(group: Sequence[Row], decisions: Mapping[str, Decision]) -> Row:
    def newest(rows: Sequence[Row]) -> Row | None:
        return max(rows, key=lambda row: (row.revision or 0, row.created_at, row.row_id), default=None)

    let_in = newest([row for row in group if row.row_id in decisions and decisions[row.row_id].lets_in])
    best = let_in or newest(group) or group[0]
    if let_in is None and any(row.row_id in decisions for row in group):
        teaches = _teaches(best)
        rejected = [row for row in group if row.row_id in decisions and decisions[row.row_id].state == REJECTED]
        best = newest([row for row in rejected if _teaches(row) == teaches]) or best
    return best


def _teaches(row: Row) -> tuple[str, bool]:
    """What is to be learnt of the row by its judgement: an answer, and whether it is a good one."""
    now = _spoken(row, _read(row.judgement))
    answer = now.answer if now.answer is not None else now.rejected
    return canonical_answer(answer or ""), now.answer is not None and now.label is not False


def _spoken(row: Row, said: Mapping[str, Any] | None) -> Row:
    """The row as its judgement, where it has one, says."""
    if said is None:
        return row
    return replace(
        row,
        answer=said.get("output"),
        rejected=said.get("rejected"),
        label=said.get("label"),
        kind=said.get("kind") or row.kind,
        source=said.get("source") or row.source,
        form=said.get("form"),
        confidence=said.get("confidence"),
        review=said.get("review") or row.review,
    )


def _giver(group: Sequence[Row], best: Row, said: Mapping[str, Any] | None) -> Row:
    """The row of whoever gave the answer that the judgement names, the newest of several; `best` where nobody did."""
    output = None if said is None else said.get("output")
    if said is None or output is None:
        return best
    whose, answer = (said.get("kind"), said.get("source") or best.source), canonical_answer(output)
    given = [row for row in group if (row.kind, row.source) == whose and canonical_answer(row.answer or "") == answer]
    return max(given, key=lambda row: row.revision or 0, default=best)


def _under_terms(row: Row, giver: Row) -> Row:
    """The row under the terms of whoever gave its answer, and filed as he did where its own signal says nothing."""
    return replace(
        row,
        consent=giver.consent,
        licence=giver.licence,
        category=row.category or giver.category,
        group=row.group or giver.group,
        conversation=row.conversation or giver.conversation,
    )


def heard(rows: Sequence[Row]) -> list[Row]:
    """The rows, each with all that was said in free text of the answer it is about, in order of arrival."""
    comments: dict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        if row.request_id and row.comment:
            comments[row.request_id][row.comment] = None
    if not comments:
        return list(rows)
    gathered: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.request_id in comments:
            gathered[row.request_id] |= row.named
    named = {request: frozenset(found) for request, found in gathered.items()}
    # Joined once a request: rows of one share the text.
    joined = {request: "\n".join(said) for request, said in comments.items()}
    return [
        replace(row, comment=joined[row.request_id], named=named[row.request_id])
        if row.request_id in joined else row
        for row in rows
    ]  # fmt: skip


def _read(judgement: str | None) -> dict[str, Any] | None:
    try:
        said = json.loads(judgement or "null")
    except ValueError:
        return None
    return said if isinstance(said, dict) else None
