"""Near duplicates are merged; what looks alike and differs where it matters is kept and told."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from libs.contracts.answers import canonical_answer
from services.curation.compute.near import find_near
from services.curation.domain.clusters import Apart
from services.curation.domain.guard import Kind
from services.curation.domain.ledger import Ledger
from services.curation.domain.rows import Row, asked
from services.curation.domain.steps import Context, Result

_SHOWN = 5


class Near:
    """Merges near duplicates within a split into the most similar earlier row, never along a chain."""

    name, version = "near", 2

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        policy, ledger = context.spec.data.duplicates, Ledger()
        if not policy.near or not rows:
            return Result(list(rows), ledger, {"near_duplicates": _told(rows, policy.threshold, (), {}, None)})
        found = find_near(
            [asked(row) for row in rows],
            threshold=policy.threshold,
            guard=policy.guard,
            scopes=[row.split for row in rows],
            answers=[f"{canonical_answer(row.answer or '')}\x00{row.label is False}" for row in rows],
        )
        standing: Counter[str] = Counter()
        for at, centre, similarity in found.merged():
            kept = rows[centre].row_id
            standing[kept] += rows[at].stands_for
            ledger.remove(rows[at], "near_duplicate", f"of {kept} at {similarity:.2f}", other=kept)
        left = [
            replace(row, stands_for=row.stands_for + standing[row.row_id]) if standing[row.row_id] else row
            for row in ledger.kept(rows)
        ]
        counts = {str(kind): count for kind, count in found.apart_pairs.items()}
        facts = {
            "near_duplicates": {
                **_told(rows, policy.threshold, found.apart, counts, found.alarm),
                "method": found.method,
                "largest_cluster": found.largest,
            }
        }
        return Result(left, ledger, facts)


def _told(
    rows: Sequence[Row], threshold: float, apart: Iterable[Apart], counts: dict[str, int], alarm: str | None
) -> dict[str, object]:
    disputed = [each for each in apart if each.kind == Kind.ANSWER]
    critical = [each for each in apart if each.kind != Kind.ANSWER]
    answers = counts.get(str(Kind.ANSWER), 0)

    def shown(pairs: list[Apart]) -> list[list[str]]:
        return [[rows[each.row].input[:200], rows[each.other].input[:200], each.detail] for each in pairs[:_SHOWN]]

    return {
        "threshold": threshold,
        "kept_apart": {"pairs": sum(counts.values()) - answers, "by_kind": counts, "examples": shown(critical)},
        "possible_conflicts": {"pairs": answers, "examples": shown(disputed)},
        "alarm": alarm,
    }
