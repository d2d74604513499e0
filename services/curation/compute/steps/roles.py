"""The chat schema: known roles in an order a chat template can render."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from services.curation.domain.ledger import Ledger
from services.curation.domain.messages import history_of, turns_of, unreadable, word
from services.curation.domain.rows import Row
from services.curation.domain.steps import Context, Result

ROLES = ("system", "user", "assistant", "tool")


class Roles:
    """Merges neighbouring turns of one role; turns that are no conversation, or that no base can read, cost the row."""

    name, version = "roles", 3

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        ledger, repairs, edited = Ledger(), context.spec.data.curation.repair.roles, []
        for row in rows:
            fault = _fault(row.history) if row.history else None
            if fault is not None:
                ledger.remove(row, "roles_broken", fault)
                continue
            unread = _unread(row) if "not_text" not in context.undone else None
            if unread is not None:
                ledger.remove(row, "not_text", unread)
                continue
            now = _merged(row) if repairs and row.history else row
            if now is not row:
                ledger.edit(row, "roles_merged")
            edited.append(now)
        return Result(edited, ledger)


def _fault(history: str) -> str | None:
    for at, turn in enumerate(turns_of(history)):
        if turn.get("role") not in ROLES:
            return f"history[{at}].role: {word(turn.get('role'))!r} is none of {', '.join(ROLES)}"
        content = turn.get("content")
        if not isinstance(content, str | list) and not turn.get("tool_calls"):
            return f"history[{at}].content: is missing"
    return None


def _unread(row: Row) -> str | None:
    whole = {"input": row.input_as, "answer": row.answer_as}
    messages = {f"history[{at}]": turn for at, turn in enumerate(turns_of(row.history))}
    messages |= {place: json.loads(text) for place, text in whole.items() if text is not None}
    return next((f"{place}.{why}" for place, each in messages.items() if (why := unreadable(each)) is not None), None)


def _merged(row: Row) -> Row:
    before: list[dict[str, Any]] = json.loads(row.history or "[]")
    turns: list[dict[str, Any]] = []
    for turn in before:
        if turns and _joins(turns[-1], turn):
            turns[-1] = {"role": turn["role"], "content": f"{turns[-1]['content']}\n\n{turn['content']}"}
        else:
            turns.append(turn)
    text = row.input
    if turns and _same_speaker(row) and _joins(turns[-1], {"role": "user", "content": text}):
        text = f"{turns.pop()['content']}\n\n{text}"
    return row if turns == before else replace(row, history=history_of(turns), input=text)


def _same_speaker(row: Row) -> bool:
    """Whether the input is a user's who gives no name, and text alone."""
    whole = json.loads(row.input_as) if row.input_as else {"role": "user", "content": row.input}
    return set(whole) == {"role", "content"} and whole["role"] == "user" and unreadable(whole) is None


def _joins(left: dict[str, Any], right: dict[str, Any]) -> bool:
    plain = all(set(turn) == {"role", "content"} and isinstance(turn["content"], str) for turn in (left, right))
    return plain and left["role"] == right["role"] and left["role"] in ("user", "assistant")
