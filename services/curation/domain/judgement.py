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
    """Rows left, how many requests were judged, and the rows that a person should look at."""

    rows: list[Row]
    requests: int
    doubtful: list[Row]


def settle(rows: Sequence[Row], ledger: Ledger) -> Judged:
    """Of several rows on a request the one with the newest judgement stands, and says what the judgement says.

    Rows without a judgement are left as they are. Rows of untrusted sources must have left before, so that none of them
    carries the newest judgement.
    """
    by_request: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.request_id and row.judgement:
            by_request[row.request_id].append(row)
    standing: dict[str, Row] = {}
    doubtful: list[Row] = []
    for group in by_request.values():
        best = max(group, key=lambda row: (row.revision or 0, row.created_at, row.row_id))
        said = _read(best.judgement)
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
        if now.review:
            doubtful.append(now)
        for row in group:
            if row is not best:
                ledger.remove(row, "superseded_signal", f"{best.row_id} says what all signals say", other=best.row_id)
    left = [standing.get(row.row_id, row) for row in rows if row.row_id not in ledger.removed]
    return Judged(left, len(by_request), doubtful)


def _read(judgement: str | None) -> dict[str, Any] | None:
    try:
        said = json.loads(judgement or "null")
    except ValueError:
        return None
    return said if isinstance(said, dict) else None
