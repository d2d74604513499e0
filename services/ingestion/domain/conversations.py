"""Conversations of any dialect in one form, OpenAI's, with nothing lost: tools, typed parts and weights survive."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Any

from services.ingestion.domain.faults import BadRowError, json_type, need_text, text_fault

MAX_TURNS = 400
SYSTEM, USER, ASSISTANT, TOOL = "system", "user", "assistant", "tool"
ROLES = {
    "system": SYSTEM, "developer": SYSTEM,
    "user": USER, "human": USER, "customer": USER, "prompter": USER,
    "assistant": ASSISTANT, "gpt": ASSISTANT, "agent": ASSISTANT, "bot": ASSISTANT, "model": ASSISTANT,
    "chatgpt": ASSISTANT, "function_call": ASSISTANT,
    "tool": TOOL, "function": TOOL, "api": TOOL, "observation": TOOL, "tool_response": TOOL,
}  # fmt: skip
_TEXTS = ("content", "value", "text")
_PART_TYPES = ("text", "image_url", "input_audio", "file", "refusal")
_CALLED = ("api",)
"""Keys under which the assistant of a dialect says which call it makes, in the place of a text."""
_NAMES = ("name", "tool_call_id")
_KEPT = (*_NAMES, "refusal", "reasoning_content")

_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)

Message = dict[str, Any]
"""One message in OpenAI's form: role, content (text, typed parts or null), and what else belongs to it."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation and its flat view.

    `messages` is the whole, the answer last if there is one; `history` the JSON of the turns before `input` with plain
    text content, None for a single turn; `input` the message that the answer answers.
    """

    messages: tuple[Message, ...]
    system: str | None
    history: str | None
    input: str
    answer: str | None

    def to_json(self) -> str:
        """The messages as a JSON list."""
        return "[" + ",".join([_dumped(each) for each in self.messages]) + "]"


def conversation(value: object, place: str, answer: Sequence[Message] | None = None) -> Conversation:
    """Read a list of messages; the last one is the answer when it is the assistant's.

    With `answer` given (messages of a completion) the list is the prompt alone. BadRowError names the message and what
    is wrong with it.
    """
    messages = messages_of(value, place)
    if answer is None and messages[-1]["role"] == ASSISTANT:
        prompt, reply = messages[:-1], messages[-1:]
    else:
        prompt, reply = messages, list(answer or ())
    # Earlier messages of a completion (tool calls and their results) belong to what the last one answers.
    prompt, reply = prompt + reply[:-1], reply[-1:]
    turns = [(each["role"], plain(each)) for each in prompt if each["role"] != SYSTEM]
    if not turns:
        raise BadRowError(place, "nobody asks anything: there is no message before the answer")
    if turns[-1][0] == ASSISTANT:
        raise BadRowError(place, "the answer must follow a message of the user or of a tool")
    if not any(role == USER for role, _ in turns):
        raise BadRowError(place, "there is no message of the user")
    if reply and not plain(reply[0]):
        raise BadRowError(place, "the answer is empty")
    system = "\n\n".join(plain(each) for each in prompt if each["role"] == SYSTEM)
    earlier = [{"role": role, "content": text} for role, text in turns[:-1]]
    return Conversation(
        messages=(*prompt, *reply),
        system=system or None,
        history=dump(earlier) if earlier else None,
        input=turns[-1][1],
        answer=plain(reply[0]) if reply else None,
    )


def messages_of(value: object, place: str) -> list[Message]:
    """A list of messages of any dialect, or the JSON text of one; BadRowError names what is wrong with which."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise BadRowError(place, "must be a list of messages, or the JSON of one") from None
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not value:
        raise BadRowError(place, f"must be a list of messages, not {json_type(value) if value != [] else 'empty'}")
    if len(value) > MAX_TURNS:
        raise BadRowError(place, f"has {len(value)} messages, more than {MAX_TURNS}")
    return [_message(each, f"{place}[{at}]") for at, each in enumerate(value)]


def reply_of(value: object, place: str) -> list[Message]:
    """A completion: text, one message or several, all the assistant's or a tool's, the assistant's last."""
    if isinstance(value, str) and not is_messages(value):
        return [{"role": ASSISTANT, "content": need_text(value, place)}]
    if value is None or isinstance(value, (bool, int, float)):
        need_text(value, place)
    messages = messages_of(value, place)
    if messages[-1]["role"] != ASSISTANT:
        raise BadRowError(place, "the last message of an answer must be the assistant's")
    if any(each["role"] in (SYSTEM, USER) for each in messages):
        raise BadRowError(place, "an answer holds messages of the assistant and of tools only")
    if not plain(messages[-1]):
        raise BadRowError(place, "the answer is empty")
    return messages


def is_messages(text: str) -> bool:
    """Whether a text is the JSON of a list of messages, and not an answer that happens to be JSON."""
    if not text.lstrip().startswith("["):
        return False
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if not isinstance(value, list) or not value:
        return False
    return all(
        isinstance(each, dict) and each.keys() & {"role", "from"} and each.keys() & {*_TEXTS, "tool_calls"}
        for each in value
    )


def plain(message: Message) -> str:
    """The text of a message: its content, the text among its parts, or its tool calls as JSON."""
    content = message.get("content")
    if isinstance(content, str) and content:
        return content
    if isinstance(content, list):
        texts = [str(part.get("text") or part.get("refusal") or f"<{part['type']}>") for part in content]
        return "\n".join(texts)
    if message.get("tool_calls"):
        return dump({"tool_calls": [call["function"] for call in message["tool_calls"]]})
    return str(message.get("refusal") or "")


def dump(value: object) -> str:
    """Compact JSON with the text as it is; BadRowError where a value is none that JSON has."""
    try:
        return _COMPACT.encode(value)
    except RecursionError:
        raise BadRowError("", "nested too deeply") from None
    except (ValueError, TypeError) as error:
        raise BadRowError("", f"holds what JSON cannot say: {error}"[:200]) from None


def _dumped(message: Message) -> str:
    """As `dump`; most messages are a role and a text, for which no encoder need be made."""
    content = message["content"]
    if len(message) == 2 and isinstance(content, str):
        return f'{{"role":"{message["role"]}","content":{encode_basestring(content)}}}'
    return dump(message)


def _message(value: object, place: str) -> Message:
    if not isinstance(value, dict):
        raise BadRowError(place, f"must be an object with role and content, not {json_type(value)}")
    given = value.get("role", value.get("from"))
    role = ROLES.get(given.lower()) if isinstance(given, str) else None
    if role is None:
        known = "system, user, assistant, tool"
        raise BadRowError(f"{place}.role", f"must be one of {known}, not {json.dumps(given, default=str)[:60]}")
    message: Message = {"role": role, "content": _content(value, given, place)}
    calls = _calls(value, given, place)
    if calls:
        message["tool_calls"] = calls
        if given == "function_call":
            message["content"] = None
    for name in _KEPT:
        kept = value.get(name)
        if isinstance(kept, int) and not isinstance(kept, bool) and name in _NAMES:
            kept = str(kept)
        if isinstance(kept, str) and kept:
            message[name] = kept
        elif isinstance(kept, bytes) or (name == "tool_call_id" and kept not in (None, "")):
            raise BadRowError(f"{place}.{name}", f"must be text, not {json_type(kept)}")
    weight = value.get("weight")
    if weight is not None:
        if isinstance(weight, bool) or weight not in (0, 1):
            raise BadRowError(f"{place}.weight", f"must be 0 or 1, not {json.dumps(weight, default=str)[:40]}")
        message["weight"] = int(weight)
    if message["content"] is None and not calls and not message.get("refusal"):
        raise BadRowError(f"{place}.content", "is missing")
    return message


def _content(value: Mapping[str, Any], given: object, place: str) -> str | list[Any] | None:
    key = next((name for name in _TEXTS if value.get(name) is not None), None)
    if key is None:
        # A turn that is a call or its result, in a dialect of its own, stays whole as JSON. Of any other turn that says
        # nothing, what else it holds (an id, a time) is nothing that somebody said.
        if value.keys() & {"tool_calls", "function_call"}:
            return None
        beside = ("role", "from", "weight", *_TEXTS, *_KEPT)
        whole = ROLES.get(str(given).lower()) == TOOL or given == "function_call"
        own = {name: each for name, each in value.items() if (name not in beside if whole else name in _CALLED)}
        return dump(own) if any(each is not None for each in own.values()) else None
    content = value[key]
    where = f"{place}.{key}"
    if isinstance(content, list):
        return [_part(each, f"{where}[{at}]") for at, each in enumerate(content)] or None
    if isinstance(content, dict):
        return dump(content)
    if content == "" and (value.get("tool_calls") or value.get("function_call") or value.get("refusal")):
        return None
    if content == "" and ROLES.get(str(given).lower()) != USER:
        # A turn in which somebody said nothing is a turn all the same; the answer itself may not be empty.
        return ""
    return need_text(content, where)


def _part(value: object, place: str) -> Message:
    if isinstance(value, str):
        return {"type": "text", "text": need_text(value, place)}
    if not isinstance(value, dict) or value.get("type") not in _PART_TYPES:
        shown = value.get("type") if isinstance(value, dict) else json_type(value)
        raise BadRowError(place, f"a content part has one of the types {', '.join(_PART_TYPES)}, not {shown!r}")
    if value["type"] == "text":
        fault = text_fault(value.get("text"))
        if fault is not None:
            raise BadRowError(f"{place}.text", fault)
    elif value["type"] not in value:
        raise BadRowError(place, f"a part of the type {value['type']!r} needs the field {value['type']!r}")
    return value


def _calls(value: Mapping[str, Any], given: object, place: str) -> list[Message]:
    calls = value.get("tool_calls")
    if not calls and isinstance(value.get("function_call"), dict):
        calls = [{"function": value["function_call"]}]
    if not calls and given == "function_call":
        parsed = _parsed(value.get("value", value.get("content")), place)
        calls = [{"function": each} for each in (parsed if isinstance(parsed, list) else [parsed])]
    if not calls:
        return []
    if not isinstance(calls, list):
        raise BadRowError(f"{place}.tool_calls", f"must be a list, not {json_type(calls)}")
    return [_call(each, f"{place}.tool_calls[{at}]", at) for at, each in enumerate(calls)]


def _call(value: object, place: str, at: int) -> Message:
    function = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadRowError(place, "a tool call needs a function with a name")
    # What Llama 3 calls parameters are arguments.
    arguments = next((function[key] for key in ("arguments", "parameters") if function.get(key) is not None), None)
    if arguments is None:
        raise BadRowError(place, "a tool call needs arguments; of a tool that takes none they are {}")
    # Some exports hold the arguments as an object; a string is what every trainer and server reads.
    text = arguments if isinstance(arguments, str) else dump(arguments)
    return {
        "id": str(value.get("id") or f"call_{at}"),
        "type": "function",
        "function": {"name": function["name"], "arguments": text},
    }


def _parsed(value: object, place: str) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise BadRowError(place, "a function call must be JSON with name and arguments") from None
