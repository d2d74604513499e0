"""The proof that no edge crosses: counted anew on the rows as they are published, by none of the code that withheld."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from libs.contracts.errors import DataLoss
from services.curation.domain.rows import Row, asked
from services.curation.domain.split import TEST, TRAIN, VALIDATION
from services.curation.domain.suite import Item

_PAIRS = ((TEST, TRAIN), (TEST, VALIDATION), (VALIDATION, TRAIN))


def prove(
    rows: Sequence[Row],
    items: Sequence[Item],
    key: Callable[[str], str],
    form: Callable[[str], frozenset[str]],
    *,
    customers: bool,
) -> dict[str, Any]:
    """Edges that cross from one split into another, by kind; DataLoss unless every count is 0.

    Kinds: group (conversation, customer or cluster), text (equal to a reader), template (equal once numbers and
    identifiers are masked), and customer where the policy keeps customers together. Items of suites count as test rows.
    """
    kinds: dict[str, dict[str, set[Any]]] = {}

    def gather(kind: str, of: Callable[[Row], Any], of_item: Callable[[Item], Any]) -> None:
        sides = {name: {of(row) for row in rows if row.split == name} for name in (TEST, VALIDATION, TRAIN)}
        sides[TEST] |= {of_item(item) for item in items}
        kinds[kind] = {name: side - {None} for name, side in sides.items()}

    gather("group", lambda row: row.split_group, lambda item: item.group)
    gather("text", lambda row: key(asked(row)), lambda item: key(item.asked))
    gather("template", lambda row: form(asked(row)), lambda item: form(item.asked))
    if customers:
        gather("customer", lambda row: row.user, lambda _item: None)
    crossing = {
        kind: {f"{left}-{right}": _crossing(sides[left], sides[right]) for left, right in _PAIRS}
        for kind, sides in kinds.items()
    }
    for kind, counts in crossing.items():
        for pair, count in counts.items():
            if count:
                raise DataLoss(f"{count} edges of kind {kind} cross {pair}", field="split")
    return {
        "edges_crossing": crossing,
        "groups_shared_with_train": crossing["group"]["test-train"],
        "texts_shared_with_train": crossing["text"]["test-train"],
        "checked": {name: sum(row.split == name for row in rows) for name in (TRAIN, VALIDATION, TEST)},
        "suite_items": len(items),
    }


def _crossing(left: Iterable[Any], right: Iterable[Any]) -> int:
    return len(set(left) & set(right))
