"""Messages in OpenAI's form and their flat view: what is rewritten in one is rewritten in the other."""

import json
import re
from collections.abc import Callable
from typing import Any

Message = dict[str, Any]
Change = Callable[[str], str]

_TEXTS = ("refusal", "reasoning_content")
_CALLED = frozenset(("name", "type", "required", "$ref", "format", "pattern"))
"""Keys of a tool under which stand words of its schema, and nothing anybody said."""
_SHOWN = frozenset(("default", "enum", "const", "examples", "example"))
"""Keys of a tool under which stand values, and no schema."""


def text_of(content: Any) -> str:
    """The text of a message's content, which may be text, typed parts, or nothing (a call of a tool)."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict) and part.get("text"))
    return ""


def flat(message: Message) -> str:
    """A message as one text: its content, else its refusal, else its calls as JSON."""
    text = text_of(message.get("content"))
    if not text and message.get("tool_calls"):
        return dump({"tool_calls": [call["function"] for call in message["tool_calls"]]})
    return text or str(message.get("refusal") or "")


def word(given: Any) -> str:
    """A role or a type as evidence names it: one word, or that it is none, since anything may stand in its place."""
    return given if isinstance(given, str) and re.fullmatch(r"[A-Za-z_-]{1,20}", given) else "what is no word"


def unreadable(given: Message) -> str | None:
    """What of a message no base here can read: a part that is no text, a call whose arguments are no JSON object."""
    content = given.get("content")
    for at, part in enumerate(content if isinstance(content, list) else ()):
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            return f"content[{at}]: {word(kind)} is no text"
    for at, call in enumerate(given.get("tool_calls") or ()):
        try:
            arguments = json.loads(call["function"].get("arguments") or "{}")
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            arguments = None
        if not isinstance(arguments, dict):
            return f"tool_calls[{at}]: the arguments are no JSON object"
    return None


def dump(value: Any) -> str:
    """Compact JSON with the text as it is."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def turns_of(history: str | None) -> list[Message]:
    """The turns before the input."""
    return json.loads(history) if history else []


def history_of(turns: list[Message]) -> str | None:
    """Turns as a row holds them."""
    return dump(turns) if turns else None


def answer(text: str, whole: str | None, tools: str | None) -> Message:
    """The assistant's message of that text, as `message`; where tools were offered, or tools called before somebody
    edited the text, the flat view of calls is calls.
    """
    original: Message | None = None if whole is None else json.loads(whole)
    if original is not None and flat(original) == text:
        return original
    calls = _called(text) if tools or (original or {}).get("tool_calls") else None
    return message("assistant", text, whole) if calls is None else calls


def _called(text: str) -> Message | None:
    try:
        told = json.loads(text)
        calls = [
            {"id": f"call_{at}", "type": "function", "function": {"name": each["name"], "arguments": each["arguments"]}}
            for at, each in enumerate(told["tool_calls"])
        ]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    made = {"role": "assistant", "content": None, "tool_calls": calls}
    # Whatever else such JSON says is an answer in words.
    return made if calls and set(told) == {"tool_calls"} and unreadable(made) is None else None


def message(role: str, text: str, whole: str | None) -> Message:
    """A message of that text: the whole one where that is its flat view, else the text in place of what it said."""
    if whole is None:
        return {"role": role, "content": text}
    original: Message = json.loads(whole)
    if flat(original) == text:
        return original
    said = {name: each for name, each in original.items() if name not in ("tool_calls", *_TEXTS)}
    return {**said, "content": text}


def rewritten(given: Message, change: Change) -> Message:
    """The message with `change` made to every text a person or a model wrote in it, arguments of calls included, and to
    what its speaker calls himself; a tool's name stays.
    """
    texts = ("content", *_TEXTS) if given.get("role") == "tool" else ("content", *_TEXTS, "name")
    now = {**given, **{name: change(given[name]) for name in texts if isinstance(given.get(name), str)}}
    if isinstance(given.get("content"), list):
        now["content"] = [_rewritten_part(part, change) for part in given["content"]]
    if given.get("tool_calls"):
        now["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": change(call["function"].get("arguments") or "")}}
            for call in given["tool_calls"]
        ]
    return now


def _rewritten_part(part: Any, change: Change) -> Any:
    if not isinstance(part, dict):
        return part
    return part | {name: change(part[name]) for name in ("text", "refusal") if isinstance(part.get(name), str)}


def rewritten_turns(history: str | None, change: Change) -> str | None:
    """Turns with `change` made to every text in them; the same string where it changes none."""
    before = turns_of(history)
    after = [rewritten(turn, change) for turn in before]
    return history if after == before else history_of(after)


def rewritten_tools(tools: str | None, change: Change) -> str | None:
    """Tools with `change` made to what they say (descriptions, defaults, choices); the same string without any."""
    if not tools:
        return tools
    whole: dict[str, Any] = {"tools": json.loads(tools)}
    changed = False
    left: list[tuple[Any, frozenset[str]]] = [(whole, _CALLED)]
    while left:
        node, called = left.pop()
        for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
            # A property may be called as any word of the schema is: what it holds is no word, and no example is one.
            if isinstance(value, dict) or (isinstance(value, list) and key not in called):
                left.append((value, called if key not in _SHOWN else frozenset()))
            elif isinstance(value, str) and key not in called:
                node[key] = change(value)
                changed |= node[key] != value
    return dump(whole["tools"]) if changed else tools


def rewritten_whole(text: str, whole: str | None, change: Change) -> tuple[str, str | None]:
    """A text and the whole message it is the flat view of, both with `change` made."""
    if whole is None:
        return change(text), None
    original: Message = json.loads(whole)
    now = rewritten(original, change)
    # A text that somebody edited already stands for itself.
    return flat(now) if flat(original) == text else change(text), dump(now)
