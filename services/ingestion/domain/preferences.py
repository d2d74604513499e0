"""Pairs of a better and a worse answer, in every published layout: two answers to one question, and nothing else."""

from collections.abc import Sequence
from dataclasses import replace

from services.ingestion.domain.conversations import (
    ASSISTANT,
    SYSTEM,
    TOOL,
    USER,
    Message,
    dump,
    is_messages,
    messages_of,
    plain,
    reply_of,
)
from services.ingestion.domain.dialogues import is_dialogue, turns_of
from services.ingestion.domain.examples import (
    PREFERENCE,
    Example,
    Fields,
    answered,
    headed,
    instruction_of,
    prompt_of,
    system_of,
    tools_of,
)
from services.ingestion.domain.faults import BadRowError, need_text

CHOSEN, REJECTED = "chosen", "rejected"


def refused(example: Example, worse: Sequence[Message], place: str) -> Example:
    """The example with a worse answer to the same question.

    BadRowError where that is not one message, or says more than its flat view, by which a row carries it, can say.
    """
    if len(worse) != 1:
        raise BadRowError(place, _several(len(worse)))
    lost = _lost(worse[0], example.tools)
    if lost:
        raise BadRowError(place, lost)
    rich = "tool_calls" in worse[0] or not isinstance(worse[0]["content"], str)
    return replace(
        example, form=PREFERENCE, rejected=plain(worse[0]), rejected_messages=dump(list(worse)) if rich else None
    )


def pair(
    asked: str | list[Message],
    better: Sequence[Message],
    worse: Sequence[Message],
    places: tuple[str, str, str],
    tools: str | None = None,
) -> Example:
    """Two answers to what both share; `places` are those of the question and of the two.

    Both may repeat the question, or hold it where `asked` is empty (TRL's implicit prompt): they part where the first
    message differs. BadRowError where they never do, or where more than an answer each is left.
    """
    place, good, bad = places
    shared = next((at for at, (a, b) in enumerate(zip(better, worse, strict=False)) if a != b), None)
    if shared is None:
        raise BadRowError(bad, f"is the same conversation as {good!r}, or a part of it")
    context = _context(asked, list(better[:shared]), place)
    if not context:
        raise BadRowError(bad, f"without a prompt it must begin as {good!r} does: they share no question")
    left, right = reply_of(list(better[shared:]), good), reply_of(list(worse[shared:]), bad)
    # Which of several messages is the better one nobody said, and one context cannot hold the calls of both.
    if len(left) != 1:
        raise BadRowError(good, _several(len(left)))
    return refused(replace(answered(context, left, place), tools=tools), right, bad)


def trl(fields: Fields) -> Example:
    """`chosen` and `rejected`, with `prompt`, with `messages` or with neither; text may be Anthropic's dialogue."""
    if fields.get("prompt") not in (None, "", []):
        return _pair(fields, _prompt(fields["prompt"], "prompt"), "prompt")
    if fields.get("messages") not in (None, "", []):
        return sharegpt(fields, "messages")
    return _pair(fields, [], CHOSEN)


def sharegpt(fields: Fields, place: str = "conversations") -> Example:
    """LLaMA-Factory's: the turns before the answer, and two answers, each one message."""
    turns, better = messages_of(fields[place], place), answer_of(fields[CHOSEN], CHOSEN)
    # Some exports end the conversation with the answer that was chosen.
    if turns[-1]["role"] == ASSISTANT and _said(turns[-1]) == _said(better[-1]):
        turns.pop()
    return _pair(fields, turns, place)


def alpaca(fields: Fields) -> Example:
    """LLaMA-Factory's: an instruction and two answers."""
    turns = instruction_of(fields)
    asked = turns if len(turns) > 1 else str(turns[0]["content"])
    return pair(
        asked, answer_of(fields[CHOSEN], CHOSEN), answer_of(fields[REJECTED], REJECTED),
        ("instruction", CHOSEN, REJECTED), tools_of(fields),
    )  # fmt: skip


def question(fields: Fields) -> Example:
    """A question and two answers."""
    return _pair(fields, need_text(fields["question"], "question"), "question")


def openai(fields: Fields, good: str = "preferred_output", bad: str = "non_preferred_output") -> Example:
    """OpenAI's: `input` with messages and tools, and two answers under either of their names."""
    asked = fields["input"]
    if not isinstance(asked, dict) or "messages" not in asked:
        raise BadRowError("input", "must be an object with messages")
    prompt = messages_of(asked["messages"], "input.messages")
    return pair(
        prompt, answer_of(fields[good], good), answer_of(fields[bad], bad), ("input.messages", good, bad),
        tools_of(asked),
    )  # fmt: skip


def answer_of(value: object, place: str) -> list[Message]:
    """An answer, or a conversation that ends with it: text, Anthropic's dialogue, a message or a list of messages."""
    if isinstance(value, str) and not is_messages(value):
        text = need_text(value, place)
        return turns_of(text, place) if is_dialogue(text) else [{"role": ASSISTANT, "content": text}]
    if not isinstance(value, (str, list, dict)):
        need_text(value, place)
    return messages_of(value, place)


def _pair(fields: Fields, asked: str | list[Message], place: str) -> Example:
    asked = headed(system_of(fields), asked)
    better, worse = answer_of(fields[CHOSEN], CHOSEN), answer_of(fields[REJECTED], REJECTED)
    return pair(asked, better, worse, (place, CHOSEN, REJECTED), tools_of(fields))


def _prompt(value: object, place: str) -> str | list[Message]:
    asked = prompt_of(value, place)
    if isinstance(asked, str) and is_dialogue(asked):
        return turns_of(asked.rstrip().removesuffix("Assistant:"), place)
    return asked


def _context(asked: str | list[Message], shared: list[Message], place: str) -> str | list[Message]:
    """What both answers answer: the question, and what they begin with alike, each of it once."""
    if not shared:
        return asked
    turns = [{"role": USER, "content": asked}] if isinstance(asked, str) else asked
    if not any(each["role"] != SYSTEM for each in turns):
        return [*(turns if shared[0]["role"] != SYSTEM else ()), *shared]
    if shared[0]["role"] in (ASSISTANT, TOOL):
        return [*turns, *shared]
    told, said = [_said(each) for each in turns], [_said(each) for each in shared]
    if told[-len(said) :] == said:
        return turns
    bare = [each for each in told if each[0] != SYSTEM]
    if any(said[at : at + len(bare)] == bare for at in range(len(said))):
        return [*(turns[: len(told) - len(bare)] if shared[0]["role"] != SYSTEM else ()), *shared]
    raise BadRowError(place, "is another question than the one that both answers begin with")


def _said(message: Message) -> tuple[str, str]:
    return message["role"], plain(message).strip()


def _lost(message: Message, tools: str | None) -> str:
    content = message.get("content")
    if isinstance(content, list):
        kind = next((part["type"] for part in content if part["type"] != "text"), None)
        if kind is not None:
            return f"holds a part of the type {kind!r}: a worse answer is text or calls of tools"
    if message.get("tool_calls"):
        if content:
            return "says something and calls a tool as well: a worse answer is one or the other"
        if tools is None:
            return "calls a tool, and the record offers none: it needs 'tools'"
    return ""


def _several(messages: int) -> str:
    return f"holds {messages} messages after what both answers share: of a pair each is one message"
