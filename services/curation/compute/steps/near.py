"""Near duplicates are merged; what looks alike and differs where it matters is kept and told."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from libs.contracts.answers import canonical_answer
from services.curation.compute.neighbours import MinHashNeighbours
from services.curation.domain import clusters
from services.curation.domain.ledger import Ledger
from services.curation.domain.rows import Row, asked
from services.curation.domain.steps import Context, Result
from services.curation.domain.text import Reading, critical

_SHOWN = 5


class Near:
    """Merges near duplicates within a split by verified stars."""

    name, version = "near", 1

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        policy, ledger, reading = context.spec.data.duplicates, Ledger(), Reading()
        tokens = [reading.words(asked(row)) for row in rows]
        sets = [frozenset(each) for each in tokens]
        marks = [critical(each) for each in tokens]
        answers = [(canonical_answer(row.answer or ""), row.label is False) for row in rows]
        apart: list[tuple[int, int]] = []
        disputed: list[tuple[int, int]] = []

        def joins(row: int, centre: int) -> bool:
            if rows[row].split != rows[centre].split:
                return False
            if policy.guard and marks[row] != marks[centre]:
                apart.append((row, centre))
                return False
            if answers[row] != answers[centre]:
                disputed.append((row, centre))
                return False
            return True

        standing: Counter[str] = Counter()
        if policy.near:
            neighbours = MinHashNeighbours(sets)
            for at, centre in enumerate(clusters.stars(sets, neighbours, policy.threshold, joins=joins)):
                if centre != at:
                    kept = rows[centre].row_id
                    standing[kept] += rows[at].stands_for
                    ledger.remove(rows[at], "near_duplicate", f"of {kept}", other=kept)

        def shown(pairs: list[tuple[int, int]]) -> list[list[str]]:
            return [[rows[left].input[:200], rows[right].input[:200]] for left, right in pairs[:_SHOWN]]

        facts = {
            "near_duplicates": {
                "threshold": policy.threshold,
                "kept_apart": {"pairs": len(apart), "examples": shown(apart)},
                "possible_conflicts": {"pairs": len(disputed), "examples": shown(disputed)},
            }
        }
        left = [replace(row, stands_for=row.stands_for + standing[row.row_id]) for row in ledger.kept(rows)]
        return Result(left, ledger, facts)
