"""What one record teaches, and the parts that every shape of record builds it from."""

import json
from collections.abc import Mapping, Sequence
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
)
from services.ingestion.domain.faults import BadRowError, json_type, need_text

SFT, PREFERENCE, KTO = "sft", "preference", "kto"
KTO_TAG, LABEL = "kto_tag", "label"

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Example:
    """What one record teaches; `form` is sft, preference or kto, the JSON fields are as in a segment."""

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


def of(talk: Conversation, *, tools: str | None = None) -> Example:
    """The example that a conversation is."""
    return Example(
        input=talk.input, output=talk.answer, form=SFT, system=talk.system, history=talk.history,
        messages=talk.to_json(), tools=tools,
    )  # fmt: skip


def answered(asked: str | list[Message], answer: Sequence[Message], place: str) -> Example:
    """A question with its answer; `place` is where the question stands."""
    if isinstance(asked, str):
        text = answer[0]["content"]
        if len(answer) == 1 and isinstance(text, str) and answer[0].keys() == {"role", "content"}:
            return Example(input=asked, output=text, form=SFT)
        asked = [{"role": USER, "content": asked}]
    return of(conversation(asked, place, answer))


def labelled(example: Example, good: bool) -> Example:
    """The example with the verdict on its answer."""
    if good:
        return replace(example, form=KTO, label=True)
    return replace(example, form=KTO, label=False, output=None, rejected=example.output)


def verdict_key(fields: Fields) -> str | None:
    """The key that says whether the answer is good: `kto_tag`, or `label` where it holds true or false, or the word.

    Any other `label` beside an answer may be the class of a classification, and none of its values a verdict.
    """
    if fields.get(KTO_TAG) not in (None, ""):
        return KTO_TAG
    label = fields.get(LABEL)
    if isinstance(label, str):
        # A CSV has no other way to say it.
        return LABEL if label.strip().lower() in ("true", "false") else None
    return LABEL if isinstance(label, bool) else None


def verdict(value: object, place: str) -> bool:
    """Whether a verdict is good; BadRowError names the place of one that says neither."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _WORDS:
            return _WORDS[word]
    elif value in (0, 1):
        return bool(value)
    raise BadRowError(place, f"must be true or false (or 1 or 0), not {json.dumps(value, default=str)[:40]}")


def prompt_of(value: object, place: str) -> str | list[Message]:
    """A prompt is text, or messages: a list of them, or the JSON of such a list."""
    if isinstance(value, list) or (isinstance(value, str) and is_messages(value)):
        return messages_of(value, place)
    return need_text(value, place)


def system_of(fields: Fields, place: str = "system") -> list[Message]:
    """The system prompt that stands in a column of its own, as the message it is; none where there is none."""
    system = fields.get(place)
    if system in (None, []) or (isinstance(system, str) and not system.strip()):
        return []
    return [{"role": SYSTEM, "content": need_text(system, place)}]


def headed(system: list[Message], asked: str | list[Message]) -> str | list[Message]:
    """A question under the system prompt of its record, which may stand among its messages already."""
    if not system:
        return asked
    turns = [{"role": USER, "content": asked}] if isinstance(asked, str) else asked
    said = [plain(each).strip() for each in turns if each["role"] == SYSTEM]
    return turns if plain(system[0]).strip() in said else [*system, *turns]


def instruction_of(fields: Fields) -> list[Message]:
    """The turns of Alpaca's `system`, `history`, `instruction` and `input`, the question last."""
    instruction = need_text(fields["instruction"], "instruction")
    extra = fields.get("input")
    asked = instruction if extra in (None, "") else f"{instruction}\n\n{need_text(extra, 'input')}"
    turns = system_of(fields)
    for at, said in enumerate(fields.get("history") or ()):
        if not isinstance(said, (list, tuple)) or len(said) != 2:
            raise BadRowError(f"history[{at}]", "must be a pair of question and answer")
        turns += [
            {"role": USER, "content": need_text(said[0], f"history[{at}][0]")},
            {"role": ASSISTANT, "content": need_text(said[1], f"history[{at}][1]")},
        ]
    return [*turns, {"role": USER, "content": asked}]


def tools_of(fields: Fields) -> str | None:
    """The tools that were offered, as JSON in OpenAI's form."""
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


_WORDS = {
    "true": True, "1": True, "1.0": True, "yes": True, "good": True, "desirable": True,
    "false": False, "0": False, "0.0": False, "no": False, "bad": False, "undesirable": False,
}  # fmt: skip
