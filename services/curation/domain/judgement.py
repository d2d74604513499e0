"""What ingestion says all signals on one request amount to, where it says so."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.curation.domain.ledger import Ledger
from services.curation.domain.rows import Row


@dataclass(frozen=True, slots=True)
class Judged:
    """Rows left, and how many requests were judged."""

    rows: list[Row]
    requests: int


def settle(rows: Sequence[Row], ledger: Ledger) -> Judged:
    """Of several rows on a request the one with the newest judgement stands, and says what the judgement says.

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
        best = max(judging, key=lambda row: (row.revision or 0, row.created_at, row.row_id))
        said = _read(best.judgement)
        unheard = any((row.revision or 0) > (best.revision or 0) for row in group)
        if unheard or (said is not None and not here.issuperset(filter(None, said.get("rows", ())))):
            standing |= {row.row_id: replace(row, judgement=None, review=None) for row in group}
            continue
        judged += 1
        now = best
        if said is not None:
            now = replace(
                best,
                answer=said.get("output"),
                rejected=said.get("rejected"),
                label=said.get("label"),
                kind=said.get("kind") or best.kind,
                source=said.get("source") or best.source,
                form=said.get("form"),
                confidence=said.get("confidence"),
                review=said.get("review") or best.review,
            )
        standing[best.row_id] = now
        if now.content != best.content:
            ledger.edit(
                best, "signals_reconciled", f"{said.get('good', 0)} good, {said.get('bad', 0)} bad" if said else ""
            )
        for row in group:
            if row is not best:
                ledger.remove(row, "superseded_signal", f"{best.row_id} says what all signals say", other=best.row_id)
    left = [standing.get(row.row_id, row) for row in rows if row.row_id not in ledger.removed]
    return Judged(left, judged)


def heard(rows: Sequence[Row]) -> list[Row]:
    """The rows, each with all that was said in free text of the answer it is about, in order of arrival."""
    comments: dict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        if row.request_id and row.comment:
            comments[row.request_id][row.comment] = None
    if not comments:
        return list(rows)
    named: dict[str, frozenset[str]] = defaultdict(frozenset)
    for row in rows:
        if row.request_id in comments:
            named[row.request_id] |= row.named
    return [
        replace(row, comment="\n".join(comments[row.request_id]), named=named[row.request_id])
        if row.request_id in comments else row
        for row in rows
    ]  # fmt: skip


def _read(judgement: str | None) -> dict[str, Any] | None:
    try:
        said = json.loads(judgement or "null")
    except ValueError:
        return None
    return said if isinstance(said, dict) else None
