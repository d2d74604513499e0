"""The shapes that training records come in, told from their keys, and what each record of a shape says."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.ingestion.domain.conversations import (
    ASSISTANT,
    SYSTEM,
    USER,
    Conversation,
    Message,
    conversation,
    dump,
    is_messages,
    messages_of,
    plain,
    reply_of,
)
from services.ingestion.domain.faults import BadRowError, json_type, need_text

COLUMNS = "columns"
SFT, PREFERENCE, KTO, TEXT = "sft", "preference", "kto", "text"

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Example:
    """What one record teaches; `form` is sft, preference, kto or text, the JSON fields are as in a segment."""

    input: str
    output: str | None
    form: str
    system: str | None = None
    history: str | None = None
    rejected: str | None = None
    label: bool | None = None
    messages: str | None = None
    tools: str | None = None
    rejected_messages: str | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """One known shape: the keys a record must have, how to tell it from its values, and how to read it."""

    name: str
    keys: frozenset[str]
    read: Callable[[Fields], Example]
    fits: Callable[[Fields], bool] = lambda _: True

    def holds(self, fields: Fields) -> bool:
        """Whether a record looks like this shape."""
        return self.keys <= fields.keys() and self.fits(fields)


def detect(records: Iterable[Fields]) -> str | None:
    """The shape that most of the records have, None when no known one fits."""
    seen = Counter(name for fields in records if (name := _shape_of(fields)) is not None)
    return seen.most_common(1)[0][0] if seen else None


def known() -> tuple[str, ...]:
    """Names of the known shapes."""
    return tuple(shape.name for shape in _SHAPES)


def keys_of(shape: str) -> Collection[str]:
    """The keys that a record of the shape must have."""
    return _BY_NAME[shape].keys


def read(shape: str, fields: Fields) -> Example:
    """Read a record of a known shape; BadRowError names the field that is missing or wrong."""
    wanted = _BY_NAME[shape]
    missing = sorted(wanted.keys - fields.keys())
    if missing:
        raise BadRowError(missing[0], f"is missing ({shape})")
    return wanted.read(fields)


def mapped(fields: Fields, columns: Mapping[str, str | None]) -> Example:
    """Read a record by a column map of input, output, system, rejected and label; without an answer it stays open."""
    place = columns["input"] or "input"
    asked = _conversation_or_text(fields.get(place), place)
    answer, rejected, label, system = (columns.get(name) for name in ("output", "rejected", "label", "system"))
    if answer is not None:
        example = _answered(asked, reply_of(fields.get(answer), answer), place)
    else:
        example = Example(asked, None, SFT) if isinstance(asked, str) else _from(conversation(asked, place))
    if system is not None and fields.get(system) not in (None, ""):
        example = replace(example, system=need_text(fields[system], system))
    if label is not None and fields.get(label) not in (None, ""):
        return _labelled(example, _label(fields[label], label))
    if rejected is not None and fields.get(rejected) not in (None, ""):
        return _refused(example, reply_of(fields[rejected], rejected))
    return example


def answered(example: Example, answer: str) -> Example:
    """The example with an answer, where it had none."""
    if example.messages is None:
        return replace(example, output=answer)
    whole = [*json.loads(example.messages), {"role": ASSISTANT, "content": answer}]
    return replace(example, output=answer, messages=dump(whole))


def _shape_of(fields: Fields) -> str | None:
    return next((shape.name for shape in _SHAPES if shape.holds(fields)), None)


def _from(talk: Conversation, *, form: str = SFT, tools: str | None = None) -> Example:
    return Example(
        input=talk.input, output=talk.answer, form=form, system=talk.system, history=talk.history,
        messages=talk.to_json(), tools=tools,
    )  # fmt: skip


def _messages(fields: Fields) -> Example:
    return _from(conversation(fields["messages"], "messages"), tools=_tools(fields))


def _openai_dpo(fields: Fields) -> Example:
    asked = fields["input"]
    if not isinstance(asked, dict) or "messages" not in asked:
        raise BadRowError("input", "must be an object with messages")
    prompt = messages_of(asked["messages"], "input.messages")
    chosen = reply_of(fields["preferred_output"], "preferred_output")
    refused = reply_of(fields["non_preferred_output"], "non_preferred_output")
    return _refused(_from(conversation(prompt, "input.messages", chosen), tools=_tools(asked)), refused)


def _text(fields: Fields) -> Example:
    return Example(input="", output=need_text(fields["text"], "text"), form=TEXT)


def _prompt_completion(fields: Fields) -> Example:
    asked = _conversation_or_text(fields["prompt"], "prompt")
    return replace(_answered(asked, reply_of(fields["completion"], "completion"), "prompt"), tools=_tools(fields))


def _preference(fields: Fields) -> Example:
    if fields.get("prompt") is not None:
        asked = _conversation_or_text(fields["prompt"], "prompt")
        chosen, refused = reply_of(fields["chosen"], "chosen"), reply_of(fields["rejected"], "rejected")
        return replace(_refused(_answered(asked, chosen, "prompt"), refused), tools=_tools(fields))
    # Implicit prompt: both hold it, and part at the answer.
    left, right = messages_of(_turns(fields["chosen"], "chosen"), "chosen"), _turns(fields["rejected"], "rejected")
    other = messages_of(right, "rejected")
    shared = next(
        (at for at, (a, b) in enumerate(zip(left, other, strict=False)) if a != b), min(len(left), len(other))
    )
    if shared == 0:
        raise BadRowError("rejected", "begins with another message than 'chosen': they share no prompt")
    if shared >= min(len(left), len(other)):
        raise BadRowError("rejected", "is the same conversation as 'chosen', or a part of it")
    chosen, refused = reply_of(left[shared:], "chosen"), reply_of(other[shared:], "rejected")
    return replace(_refused(_from(conversation(left[:shared], "chosen", chosen)), refused), tools=_tools(fields))


def _kto(fields: Fields) -> Example:
    return _labelled(_prompt_completion(fields), _label(fields["label"], "label"))


def _rewarded(fields: Fields) -> Example:
    asked = messages_of(fields["context"], "context")
    reply = messages_of(fields["generation"], "generation")
    return _labelled(_from(conversation(asked, "context", reply)), _label(fields["reward"], "reward"))


def _sharegpt(fields: Fields) -> Example:
    turns = messages_of(fields["conversations"], "conversations")
    if isinstance(fields.get("system"), str) and fields["system"].strip():
        turns = [{"role": SYSTEM, "content": fields["system"]}, *turns]
    return _from(conversation(turns, "conversations"), tools=_tools(fields))


def _alpaca(fields: Fields) -> Example:
    instruction = need_text(fields["instruction"], "instruction")
    extra = fields.get("input")
    asked = instruction if extra in (None, "") else f"{instruction}\n\n{need_text(extra, 'input')}"
    turns: list[Message] = []
    if isinstance(fields.get("system"), str) and fields["system"].strip():
        turns.append({"role": SYSTEM, "content": fields["system"]})
    for at, pair in enumerate(fields.get("history") or ()):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise BadRowError(f"history[{at}]", "must be a pair of question and answer")
        turns += [
            {"role": USER, "content": need_text(pair[0], f"history[{at}][0]")},
            {"role": ASSISTANT, "content": need_text(pair[1], f"history[{at}][1]")},
        ]
    talk = conversation([*turns, {"role": USER, "content": asked}], "instruction", reply_of(fields["output"], "output"))
    example = _from(talk)
    return example if turns else replace(example, messages=None)


def _question_answer(fields: Fields) -> Example:
    return _answered(need_text(fields["question"], "question"), reply_of(fields["answer"], "answer"), "question")


def _answered(asked: str | list[Message], answer: Sequence[Message], place: str) -> Example:
    if isinstance(asked, str):
        if len(answer) == 1 and isinstance(answer[0]["content"], str) and "tool_calls" not in answer[0]:
            return Example(input=asked, output=answer[0]["content"], form=SFT)
        asked = [{"role": USER, "content": asked}]
    return _from(conversation(asked, place, answer))


def _refused(example: Example, refused: Sequence[Message]) -> Example:
    rich = len(refused) > 1 or "tool_calls" in refused[0] or not isinstance(refused[0]["content"], str)
    return replace(
        example, form=PREFERENCE, rejected=plain(refused[-1]), rejected_messages=dump(list(refused)) if rich else None
    )


def _labelled(example: Example, good: bool) -> Example:
    if good:
        return replace(example, form=KTO, label=True)
    return replace(example, form=KTO, label=False, output=None, rejected=example.output)


def _label(value: object, place: str) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _WORDS:
            return _WORDS[word]
    elif value in (0, 1):
        return bool(value)
    raise BadRowError(place, f"must be true or false (or 1 or 0), not {json.dumps(value, default=str)[:40]}")


def _conversation_or_text(value: object, place: str) -> str | list[Message]:
    """A prompt is text, or messages: a list of them, or the JSON of such a list."""
    if isinstance(value, list) or (isinstance(value, str) and is_messages(value)):
        return messages_of(value, place)
    return need_text(value, place)


def _turns(value: object, place: str) -> object:
    """Messages, or the text form of published preference data: blocks that begin with `Human:` or `Assistant:`."""
    if not isinstance(value, str):
        return value
    turns: list[Message] = []
    for block in value.split("\n\n"):
        head, colon, rest = block.partition(":")
        if colon and head in ("Human", "Assistant"):
            turns.append({"role": USER if head == "Human" else ASSISTANT, "content": rest.strip()})
        elif turns:
            turns[-1]["content"] += f"\n\n{block}"
        elif block.strip():
            raise BadRowError(place, "without 'prompt' both answers must be conversations that share it")
    if not turns:
        raise BadRowError(place, "is empty")
    return turns


def _tools(fields: Fields) -> str | None:
    tools = fields.get("tools") or fields.get("functions")
    if not tools:
        return None
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except (ValueError, RecursionError):
            raise BadRowError("tools", "must be a list of tools, or the JSON of one") from None
    if not isinstance(tools, list) or not all(isinstance(each, dict) for each in tools):
        raise BadRowError("tools", f"must be a list of objects, not {json_type(tools)}")
    return dump([each if "function" in each else {"type": "function", "function": each} for each in tools])


def _is_dpo(fields: Fields) -> bool:
    return isinstance(fields["input"], (dict, type(None)))


_WORDS = {
    "true": True, "1": True, "1.0": True, "yes": True, "good": True, "desirable": True,
    "false": False, "0": False, "0.0": False, "no": False, "bad": False, "undesirable": False,
}  # fmt: skip
# In order: the first that holds is the shape, so the more particular ones stand before those that they contain.
_SHAPES = (
    Shape("openai-dpo", frozenset({"input", "preferred_output", "non_preferred_output"}), _openai_dpo, _is_dpo),
    Shape("openai-messages", frozenset({"messages"}), _messages),
    Shape("sharegpt", frozenset({"conversations"}), _sharegpt),
    Shape("trl-preference", frozenset({"chosen", "rejected"}), _preference),
    Shape("trl-kto", frozenset({"prompt", "completion", "label"}), _kto),
    Shape("trl-prompt-completion", frozenset({"prompt", "completion"}), _prompt_completion),
    Shape("alpaca", frozenset({"instruction", "output"}), _alpaca),
    Shape("rewarded-dialogue", frozenset({"context", "generation", "reward"}), _rewarded),
    Shape("question-answer", frozenset({"question", "answer"}), _question_answer),
    Shape("trl-text", frozenset({"text"}), _text, lambda fields: not fields.keys() & {"input", "output", "label"}),
)
_BY_NAME = {shape.name: shape for shape in _SHAPES}
