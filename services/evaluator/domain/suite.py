"""The frozen suite: items with the right answer, read from its `items.jsonl`."""

import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from libs.contracts.errors import InvalidInput
from libs.contracts.inference import Message
from libs.contracts.tooling import read_message

ITEMS_FILE = "items.jsonl"


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    item_id: str = Field(min_length=1, max_length=200)
    messages: tuple[Message, ...] = Field(min_length=1)
    answer: str
    category: str | None = None
    group: str | None = None
    tools: tuple[dict[str, Any], ...] = ()

    @field_validator("messages", mode="before")
    @classmethod
    def _as_they_are_asked(cls, held: Any) -> Any:
        # Typed parts, calls of tools and their results, as a dataset holds them.
        whole = isinstance(held, list) and all(isinstance(each, dict) for each in held)
        return tuple(read_message(each, f"messages.{at}") for at, each in enumerate(held)) if whole else held


@dataclass(frozen=True, slots=True)
class Item:
    """One held-out item; `group` is its cluster, by default it stands alone. An open one has no right answer.

    `tools` is the JSON of the tools offered, empty for none.
    """

    item_id: str
    messages: tuple[Message, ...]
    answer: str
    category: str | None
    group: str
    open: bool = False
    tools: str = ""


def parse_suite(text: str) -> tuple[Item, ...]:
    """Items in the order of the file; InvalidInput names the line that is wrong."""
    items: list[Item] = []
    seen: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = _Line.model_validate_json(line)
        except InvalidInput as error:
            raise InvalidInput(f"line {number} of {ITEMS_FILE}: {error}", field=error.field) from error
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise InvalidInput(f"line {number} of {ITEMS_FILE}: {first['msg']}", field=place or None) from error
        if row.item_id in seen:
            raise InvalidInput(f"line {number} of {ITEMS_FILE}: item {row.item_id!r} is there twice", field="item_id")
        seen.add(row.item_id)
        tools = json.dumps(row.tools, ensure_ascii=False) if row.tools else ""
        group = row.group or f"item:{row.item_id}"
        items.append(Item(row.item_id, row.messages, row.answer, row.category, group, tools=tools))
    if not items:
        raise InvalidInput(f"{ITEMS_FILE} holds no items", field="suite_digest")
    return tuple(items)
