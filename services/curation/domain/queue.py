"""Questions as steps raise them, and the order in which a person should answer them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from services.curation.domain.review import Kind, Question, value_of
from services.curation.domain.rows import Row
from services.curation.domain.split import TRAIN

SAID = "; users said: "
"""What stands between the reason of a question and what users said of the answer."""
_COMMENT = 500

MOST = 5_000
"""Questions one version may raise, the most valuable first: a queue nobody can finish is read by nobody."""


def question(kind: Kind, row: Row, reason: str, *, doubt: float, suggestion: str = "") -> Question:
    """A question on a row; `doubt` in [0, 1] is how likely the row is wrong. What users said of it is told too."""
    return Question(
        kind=kind, row_id=row.row_id, reason=reason, input=row.input, answer=row.answer or "",
        category=row.category, suggestion=suggestion, doubt=doubt, lineage=row.lineage or "", user=row.user or "",
        comment=row.comment or "",
    )  # fmt: skip


def ordered(questions: Iterable[Question], rows: Mapping[str, Row], counts: Mapping[str, int]) -> list[Question]:
    """The questions with their value, the most valuable first, each row once.

    `rows` are what the version knows of the rows (merged ones stand for several), `counts` training rows per category.
    """
    average = sum(counts.values()) / len(counts) if counts else 1.0
    valued = []
    for each in questions:
        row = rows.get(each.row_id)
        mine = counts.get(each.category or "", 0)
        scarcity = min(4.0, max(0.25, average / mine)) if mine else 1.0
        value = value_of(
            doubt=each.doubt,
            rows=row.stands_for if row is not None else 1,
            scarcity=scarcity,
            held_out=row is not None and row.split not in ("", TRAIN),
            characters=len(each.input) + len(each.answer),
        )
        said = SAID + each.comment[:_COMMENT] if each.comment else ""
        valued.append(replace(each, value=round(value, 6), reason=each.reason + said, comment=""))
    first: dict[str, Question] = {}
    for each in sorted(valued, key=lambda one: (-one.value, one.item_id)):
        first.setdefault(each.row_id, each)
    return list(first.values())[:MOST]


def per_category(rows: Sequence[Row]) -> dict[str, int]:
    """Training rows per category."""
    return dict(Counter(row.category for row in rows if row.category and row.split == TRAIN))
