"""Tools in a prompt: as the base's template writes them, or in Hermes' form where the template knows no tools.

Training and serving write them by this one file, so that a model meets in production what it was taught.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from libs.contracts.errors import InvalidInput
from libs.contracts.inference import Message, ToolCall

Rendered = list[dict[str, Any]]

_INTRODUCTION = (
    "You may call these tools:\n{tools}\n"
    'To call one, write <tool_call>{{"name": its name, "arguments": a JSON object}}</tool_call>.'
)


def read_message(held: Mapping[str, Any], place: str = "messages") -> Message:
    """A message in OpenAI's form, as dataset lines and suites hold it; a refusal is its text.

    Raises InvalidInput naming a part that is no text, or what is no message.
    """
    content = held.get("content")
    if isinstance(content, list):
        for at, part in enumerate(content):
            if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
                raise InvalidInput("is no text, and text is all that is read", field=f"{place}.content.{at}")
        content = "".join(part["text"] for part in content)
    if content is None:
        content = held.get("refusal") or ""
    calls = held.get("tool_calls") or ()
    if not isinstance(held.get("role"), str) or not isinstance(content, str) or not isinstance(calls, list | tuple):
        raise InvalidInput("is no message with a role and a content", field=place)
    return Message(
        role=held["role"], content=content, tool_calls=tuple(_call(each, place) for each in calls),
        tool_call_id=str(held.get("tool_call_id") or ""),
    )  # fmt: skip


def in_openai_form(message: Message) -> dict[str, Any]:
    """The message as OpenAI's API writes it, and `read_message` reads it."""
    told: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        told["tool_calls"] = [
            {"id": each.id, "type": "function", "function": {"name": each.name, "arguments": each.arguments}}
            for each in message.tool_calls
        ]
    if message.role == "tool":
        told["tool_call_id"] = message.tool_call_id
    return told


def calls_as_text(calls: Sequence[ToolCall]) -> str:
    """Calls as one answer: JSON in which arguments stand by value, so that spacing makes no other answer.

    Arguments that are no JSON object stay the text they are.
    """
    told = [{"name": call.name, "arguments": _by_value(call.arguments)} for call in calls]
    return json.dumps({"tool_calls": told}, ensure_ascii=False, separators=(",", ":"))


def answer_of(message: Message) -> str:
    """What an assistant's message answers: its calls where it calls, else its text."""
    return calls_as_text(message.tool_calls) if message.tool_calls else message.content


def in_form(template: str, messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> Rendered:
    """The messages as this chat template is to be given them."""
    return in_template_form(messages) if "tools" in template else in_hermes_form(messages, tools)


def in_template_form(messages: Sequence[Message]) -> Rendered:
    """Messages as chat templates of models with tools expect them: arguments as objects, results by call."""
    rendered: Rendered = []
    for number, message in enumerate(messages):
        entry: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            entry["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": _arguments(call.arguments, number)},
                }
                for call in message.tool_calls
            ]
        if message.role == "tool":
            entry["tool_call_id"] = message.tool_call_id
        rendered.append(entry)
    return rendered


def in_hermes_form(messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> Rendered:
    """The same as plain text, for a template that knows no tools (Hermes function calling, Nous Research, 2024).

    Tools are told in the system message, calls stand in the assistant's text, results are the user's.
    """
    rendered: Rendered = []
    for number, message in enumerate(messages):
        role, content = message.role, message.content
        if message.tool_calls:
            calls = [
                {"name": call.name, "arguments": _arguments(call.arguments, number)} for call in message.tool_calls
            ]
            told = "\n".join(f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>" for call in calls)
            content = f"{content}\n{told}" if content else told
        if role == "tool":
            role, content = "user", f"<tool_response>\n{content}\n</tool_response>"
            if rendered and number and messages[number - 1].role == "tool":
                rendered[-1]["content"] += f"\n{content}"
                continue
        rendered.append({"role": role, "content": content})
    if tools:
        listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
        told = _INTRODUCTION.format(tools=listed)
        if rendered and rendered[0]["role"] == "system":
            rendered[0]["content"] = f"{rendered[0]['content']}\n\n{told}"
        else:
            rendered.insert(0, {"role": "system", "content": told})
    return rendered


def _call(held: Any, place: str) -> ToolCall:
    told = held.get("function", held) if isinstance(held, Mapping) else None
    if not isinstance(told, Mapping) or not isinstance(told.get("name"), str):
        raise InvalidInput("is no call of a function with a name", field=f"{place}.tool_calls")
    given = told.get("arguments") or "{}"
    arguments = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    return ToolCall(id=str(held.get("id") or ""), name=told["name"], arguments=arguments)


def _by_value(arguments: str) -> Any:
    try:
        return _arguments(arguments, 0)
    except InvalidInput:
        return arguments


def _arguments(text: str, number: int) -> dict[str, Any]:
    place = f"messages.{number}.tool_calls"
    try:
        held = json.loads(text or "{}")
    except (ValueError, RecursionError) as failure:
        raise InvalidInput(f"a call's arguments are not JSON: {failure}", field=place) from failure
    if not isinstance(held, dict):
        raise InvalidInput("a call's arguments are not a JSON object", field=place)
    return held
