"""The gate suite: frozen items, extended only by what policy admits."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from libs.contracts.tooling import answer_of, read_message
from services.curation.domain.messages import answer, dump, message, text_of, turns_of
from services.curation.domain.rows import CORRECTION, Row

MAX_ADMITTED = 120
"""Most new items of one version, so that a flood of one kind does not become the measure of all."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item: messages without the answer, the answer, and the JSON of the tools that it may call."""

    item_id: str
    messages: tuple[dict[str, Any], ...]
    answer: str
    category: str | None
    group: str
    tools: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The line of `items.jsonl`."""
        line = {
            "item_id": self.item_id,
            "messages": list(self.messages),
            "answer": self.answer,
            "category": self.category,
            "group": self.group,
        }
        return line | {"tools": json.loads(self.tools)} if self.tools else line

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> "Item":
        """Read a line of `items.jsonl`; an item without a group stands alone."""
        messages = tuple(dict(each) for each in line["messages"])
        tools = dump(line["tools"]) if line.get("tools") else None
        name = str(line["item_id"])
        group = str(line.get("group") or f"item:{name}")
        return cls(name, messages, str(line["answer"]), line.get("category"), group, tools)

    @property
    def asked(self) -> str:
        """The text the item asks about: earlier turns and the last user message, without the system prompt."""
        return "\n".join(text_of(each.get("content")) for each in self.messages if each["role"] != "system")


def messages_of(row: Row, system: str) -> tuple[dict[str, Any], ...]:
    """The request of a row; the task's system prompt stands in where the row has none."""
    prompt = row.system or system
    head = [{"role": "system", "content": prompt}] if prompt else []
    return (*head, *turns_of(row.history), message("user", row.input, row.input_as))


def item_id_of(row_id: str) -> str:
    """The id of the item a row makes."""
    return f"item-{hashlib.sha256(f'item/{row_id}'.encode()).hexdigest()[:16]}"


def item_of(row: Row, group: str, system: str) -> Item:
    """The item a row makes; its id derives from the row's, so that it is the same in every version."""
    told = answer_of(read_message(answer(row.answer or "", row.answer_as, row.tools)))
    return Item(item_id_of(row.row_id), messages_of(row, system), told, row.category, group, row.tools)


def sample(items: Sequence[Item], limit: int, salt: str) -> list[Item]:
    """At most `limit` items, each category in proportion (at least one each while they last), seeded by `salt`."""
    if len(items) <= limit:
        return list(items)
    by_category = _shuffled(items, salt)
    quota = {name: limit * len(group) / len(items) for name, group in by_category.items()}
    taken = {name: max(1, int(share)) for name, share in quota.items()}
    # What rounding left over goes to the largest remainders; what it took too much comes off the largest categories.
    for name in sorted(quota, key=lambda each: (-(quota[each] % 1), each)):
        if sum(taken.values()) < limit and taken[name] < len(by_category[name]):
            taken[name] += 1
    while sum(taken.values()) > limit:
        taken[max(sorted(taken), key=lambda each: taken[each])] -= 1
    chosen = {item.item_id for name, group in by_category.items() for item in group[: taken[name]]}
    return [item for item in items if item.item_id in chosen]


def admit(
    suite: Sequence[Item],
    offered: Sequence[Row],
    group_of: Mapping[str, str],
    *,
    sources: Sequence[str],
    system: str,
    salt: str,
) -> list[Item]:
    """New items from corrections of admitted sources, the categories with fewest items first; existing ones stay.

    `offered` are the rows of this version's test split.
    """
    held = {item.item_id for item in suite}
    admitted = [row for row in offered if row.kind == CORRECTION and row.source in sources]
    candidates = [item_of(row, group_of[row.row_id], system) for row in admitted]
    waiting = _shuffled([item for item in candidates if item.item_id not in held], salt)
    counts = Counter(item.category or "" for item in suite)
    chosen: set[str] = set()
    while len(chosen) < MAX_ADMITTED and any(waiting.values()):
        name = min((each for each in waiting if waiting[each]), key=lambda each: (counts[each], each))
        chosen.add(waiting[name].pop(0).item_id)
        counts[name] += 1
    return [item for item in candidates if item.item_id in chosen]


def _shuffled(items: Sequence[Item], salt: str) -> dict[str, list[Item]]:
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in sorted(items, key=lambda each: hashlib.sha256(f"{salt}/{each.item_id}".encode()).digest()):
        groups[item.category or ""].append(item)
    return {name: groups[name] for name in sorted(groups)}
