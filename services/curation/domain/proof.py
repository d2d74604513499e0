"""The proof that no edge crosses: counted anew on what is published, whatever grouped or withheld it."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from libs.contracts.errors import DataLoss
from services.curation.domain.rows import Row, asked
from services.curation.domain.split import TEST, TRAIN, VALIDATION
from services.curation.domain.suite import Item

SIDES = (TEST, VALIDATION, TRAIN)
PAIRS = tuple(combinations(SIDES, 2))


@dataclass(frozen=True, slots=True)
class Node:
    """A published row, or an item of a suite, which counts as a test row."""

    split: str
    text: str
    group: str
    conversation: str | None
    customer: str | None


@dataclass(frozen=True, slots=True)
class Edges:
    """Edges of one kind: how many were found, and how many of them join two splits, by the pair of these.

    `threshold` is the similarity from which two nodes have an edge, 1 where they must be equal.
    """

    kind: str
    method: str
    threshold: float
    counted: int
    crossing: Mapping[tuple[str, str], int]


def nodes_of(rows: Iterable[Row], items: Iterable[Item], behind: Mapping[str, Row]) -> list[Node]:
    """What is published; an item that a test row made is that row.

    `behind` are the rows that items were made of, by item, which may be published no more: an item is still of their
    conversation and customer.
    """
    nodes = [Node(row.split, asked(row), row.split_group, row.conversation, row.user) for row in rows]
    made = {(node.text, node.group, user) for node in nodes if node.split == TEST for user in (node.customer, None)}
    conversations = {node.conversation for node in nodes}
    for item in items:
        row = behind.get(item.item_id)
        user = row.user if row is not None else None
        if (item.asked, item.group, user) not in made:
            own = item.group if item.group in conversations else None
            own = row.conversation if row is not None and row.conversation is not None else own
            nodes.append(Node(TEST, item.asked, item.group, own, user))
    return nodes


def equal(kind: str, method: str, nodes: Sequence[Node], key: Callable[[Node], Hashable]) -> Edges:
    """Edges between nodes of one key; None is no key."""
    meeting: dict[Hashable, Counter[str]] = defaultdict(Counter)
    for node in nodes:
        meeting[key(node)][node.split] += 1
    meeting.pop(None, None)
    counted = sum(count.total() * (count.total() - 1) // 2 for count in meeting.values())
    crossing = {(left, right): sum(count[left] * count[right] for count in meeting.values()) for left, right in PAIRS}
    return Edges(kind, method, 1.0, counted, crossing)


def prove(nodes: Sequence[Node], edges: Iterable[Edges], left_out: Mapping[str, str]) -> dict[str, Any]:
    """What the manifest says: edges by kind, and which kinds were not counted and why.

    DataLoss when an edge of any kind joins two splits.
    """
    told: dict[str, dict[str, Any]] = {}
    for each in edges:
        for (left, right), count in each.crossing.items():
            if count:
                raise DataLoss(f"{count} edges of kind {each.kind} cross {left}-{right}", field="split")
        told[each.kind] = {
            "edges": each.counted, "crossing": 0, "method": each.method, "threshold": each.threshold,
        }  # fmt: skip
    sides = Counter(node.split for node in nodes)
    return {"edges": told, "left_out": dict(left_out), "nodes": {name: sides[name] for name in SIDES}}
