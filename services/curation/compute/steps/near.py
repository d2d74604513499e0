"""Near and semantic duplicates are merged; what looks alike and differs where it matters is kept and told."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from libs.contracts.answers import canonical_answer
from services.curation.compute.calibrate import THRESHOLDS, calibrate
from services.curation.compute.engines import sketcher_of
from services.curation.compute.near import find_near
from services.curation.compute.semantic import Embeddings, find_semantic
from services.curation.domain.clusters import Apart, NearDuplicates
from services.curation.domain.guard import Kind
from services.curation.domain.identity import Identity
from services.curation.domain.ledger import Ledger
from services.curation.domain.rows import Row, asked
from services.curation.domain.steps import Context, Result
from services.curation.domain.text import operators

_SHOWN = 5


class Near:
    """Merges near duplicates within a split into the most similar earlier row, never along a chain."""

    name, version = "near", 7

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        policy = context.spec.data.duplicates
        if not policy.near or not rows:
            facts = _told(rows, policy.threshold, (), {}, None)
            return Result(list(rows), Ledger(), {"near_duplicates": facts})
        texts = [asked(row) for row in rows]
        tried = THRESHOLDS if policy.calibrate else (policy.threshold,)
        measured = calibrate(texts, guard=policy.guard, thresholds=tried)
        found = find_near(
            texts, threshold=measured.threshold, guard=policy.guard, sketcher=sketcher_of(context.spec),
            scopes=_scopes(rows, context), answers=_answers(rows),
        )  # fmt: skip
        return _merged(rows, found, "near_duplicate", measured.threshold, {"measured": measured.told()})


class Semantic:
    """Merges, within a split, rows that say the same in other words, where the policy asks for it."""

    name, version = "semantic", 6

    def __init__(self, embeddings: Embeddings | None) -> None:
        self._embeddings = embeddings

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        policy = context.spec.data.duplicates
        if policy.semantic is None or not rows:
            return Result(list(rows), Ledger())
        texts = [asked(row) for row in rows]
        found = find_semantic(
            texts, threshold=policy.semantic, guard=policy.guard, embeddings=self._embeddings,
            scopes=_scopes(rows, context), answers=_answers(rows),
        )  # fmt: skip
        return _merged(rows, found, "semantic_duplicate", policy.semantic, {})


def _scopes(rows: Sequence[Row], context: Context) -> list[str]:
    """What rows must have in common to be compared at all."""
    same, guard = Identity(context.spec), context.spec.data.duplicates.guard
    # Words do not tell `a < b` from `a > b`.
    signs = [operators(asked(row)) if guard else "" for row in rows]
    return [
        f"{row.split}\x00{same.frame(row)}\x00{same.beaten(row)}\x00{sign}"
        for row, sign in zip(rows, signs, strict=True)
    ]


def _answers(rows: Sequence[Row]) -> list[str]:
    """What rows must have in common to be merged."""
    return [f"{canonical_answer(row.answer or '')}\x00{row.label is False}" for row in rows]


def _merged(
    rows: Sequence[Row], found: NearDuplicates, rule: str, threshold: float, facts: dict[str, object]
) -> Result:
    ledger, standing = Ledger(), Counter[str]()
    for at, centre, similarity in found.merged():
        kept = rows[centre].row_id
        standing[kept] += rows[at].stands_for
        ledger.remove(rows[at], rule, f"of {kept} at {similarity:.2f}", other=kept)
    left = [
        replace(row, stands_for=row.stands_for + standing[row.row_id]) if standing[row.row_id] else row
        for row in ledger.kept(rows)
    ]
    counts = {str(kind): count for kind, count in found.apart_pairs.items()}
    told = {
        **_told(rows, threshold, found.apart, counts, found.alarm),
        "method": found.method, "largest_cluster": found.largest, **facts,
    }  # fmt: skip
    return Result(left, ledger, {f"{rule}s": told})


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
