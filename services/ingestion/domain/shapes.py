"""The shapes that training records come in, told from their keys, and what each record of a shape says."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from services.ingestion.domain import preferences
from services.ingestion.domain.conversations import ASSISTANT, Message, conversation, dump, messages_of, reply_of
from services.ingestion.domain.examples import (
    KTO_TAG,
    LABEL,
    SFT,
    Example,
    Fields,
    answered,
    headed,
    instruction_of,
    labelled,
    of,
    prompt_of,
    system_of,
    tools_of,
    verdict,
    verdict_key,
)
from services.ingestion.domain.faults import BadRowError, need_text
from services.ingestion.domain.rendered import turns_in

COLUMNS = "columns"
BESIDE_COLUMNS = frozenset(("system", "tools", KTO_TAG, LABEL))
"""Columns that are read beside mapped ones without being mapped, unless somebody named the shape."""
NO_QUESTION = (
    "a text alone does not say what is asked and what is to be answered: bring prompt and completion, or messages, or "
    "the text as a chat template renders a conversation, or map 'input' and 'output' to columns"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """One known shape: the keys a record must have, how to tell it from its values, and how to read it."""

    name: str
    keys: frozenset[str]
    read: Callable[[Fields], Example]
    fits: Callable[[Fields], bool] = lambda _: True

    def holds(self, fields: Fields) -> bool:
        """Whether a record looks like this shape; a key that says nothing is none, as tables have every column."""
        return all(fields.get(key) not in (None, "") for key in self.keys) and self.fits(fields)


def detect(records: Iterable[Fields]) -> str | None:
    """The shape that most of the records have, None when no known one fits."""
    seen = Counter(name for fields in records if (name := _shape_of(fields)) is not None)
    return seen.most_common(1)[0][0] if seen else None


def is_bare(records: Iterable[Fields]) -> bool:
    """Whether the records are texts for a language model, with nothing that tells a question from its answer."""
    return all(fields.get("text") and not fields.keys() & _BESIDE_TEXT for fields in records)


def known() -> tuple[str, ...]:
    """Names of the known shapes."""
    return tuple(shape.name for shape in _SHAPES)


def keys_of(shape: str) -> Collection[str]:
    """The keys that a record of the shape must have."""
    return _BY_NAME[shape].keys


def read(shape: str, fields: Fields, *, named: bool = False) -> Example:
    """Read a record of a known shape; BadRowError names the field that is missing or wrong.

    Unless somebody named the shape, a record that is of a more particular one is read as that: a verdict or a worse
    answer is never passed over because most records of the file have none.
    """
    wanted = _BY_NAME[shape]
    if not named:
        wanted = next((each for each in _before(shape, _KEYS.intersection(fields)) if each.holds(fields)), wanted)
    missing = sorted(wanted.keys - fields.keys())
    if missing:
        raise BadRowError(missing[0], f"is missing ({shape})")
    return wanted.read(fields)


@lru_cache(4096)
def _before(shape: str, keys: frozenset[str]) -> tuple[Shape, ...]:
    """The shapes, more particular than that one, that a record with these keys may be of."""
    return tuple(each for each in _SHAPES[: _PLACES[shape]] if each.keys <= keys)


def mapped(fields: Fields, columns: Mapping[str, str | None], *, named: bool = False) -> Example:
    """Read a record by a column map of input, output, system, rejected and label; without an answer it stays open.

    Unless somebody named the shape, a verdict on the answer is read where no column is mapped to one. A worse answer
    says more than a verdict; where one is mapped, a record without either is not taken for good.
    """
    place = columns["input"] or "input"
    asked = prompt_of(fields.get(place), place)
    label = _label(fields, columns, named=named)
    # Beside a conversation, or columns that nobody had to map, these two names say what they say beside any shape.
    beside = not named and (not isinstance(asked, str) or (place, columns.get("output")) == ("input", "output"))
    tools = tools_of(fields) if beside and _are_tools(fields.get("tools")) else None
    column = columns.get("system") or ("system" if beside else None)
    system = [] if column is None else system_of(fields, column)
    example = _mapped(fields, columns, asked, tools)
    if system and example.messages is None:
        example = replace(example, system=system[0]["content"])
    elif system:
        example = _mapped(fields, columns, headed(system, asked), tools)
    return example if label is None else labelled(example, verdict(fields[label], label))


def _mapped(
    fields: Fields, columns: Mapping[str, str | None], asked: str | list[Message], tools: str | None
) -> Example:
    """What the columns say of the answers to what was asked."""
    place, answer = columns["input"] or "input", columns.get("output")
    rejected = _given(fields, columns.get("rejected"))
    if answer is not None and rejected is not None:
        better, worse = reply_of(fields.get(answer), answer), reply_of(fields[rejected], rejected)
        return preferences.pair(asked, better, worse, (place, answer, rejected), tools)
    if answer is not None:
        return replace(answered(asked, reply_of(fields.get(answer), answer), place), tools=tools)
    example = Example(asked, None, SFT) if isinstance(asked, str) else of(conversation(asked, place))
    example = replace(example, tools=tools)
    return example if rejected is None else preferences.refused(example, reply_of(fields[rejected], rejected), rejected)


def _are_tools(value: object) -> bool:
    """Whether a column of that name holds tools of a model, and not words about any others."""
    return isinstance(value, list) or (isinstance(value, str) and value.lstrip().startswith("["))


def _label(fields: Fields, columns: Mapping[str, str | None], *, named: bool) -> str | None:
    """The column of the verdict on the answer; None where a pair says it, or nobody does."""
    mapped, answered_ = columns.get("label"), columns.get("output") is not None
    given = _given(fields, mapped)
    if _given(fields, columns.get("rejected")) is not None:
        if given is not None and answered_ and not verdict(fields[given], given):
            raise BadRowError(given, "says that the answer is bad, which the record has as the better of two")
        return None
    if mapped is not None and given is None:
        raise BadRowError(mapped, "is empty: nobody says whether the answer is good")
    return verdict_key(fields) if mapped is None and answered_ and not named else given


def completed(example: Example, answer: str) -> Example:
    """The example with an answer, where it had none."""
    if example.messages is None:
        return replace(example, output=answer)
    whole = [*json.loads(example.messages), {"role": ASSISTANT, "content": answer}]
    return replace(example, output=answer, messages=dump(whole))


def _given(fields: Fields, column: str | None) -> str | None:
    return None if column is None or fields.get(column) in (None, "") else column


def _shape_of(fields: Fields) -> str | None:
    return next((shape.name for shape in _SHAPES if shape.holds(fields)), None)


def _messages(fields: Fields) -> Example:
    return _talk(fields, "messages")


def _sharegpt(fields: Fields) -> Example:
    return _talk(fields, "conversations")


def _talk(fields: Fields, place: str) -> Example:
    system = system_of(fields)
    turns = headed(system, messages_of(fields[place], place)) if system else fields[place]
    return of(conversation(turns, place), tools=tools_of(fields))


def _text(fields: Fields) -> Example:
    turns = turns_in(need_text(fields["text"], "text"))
    if turns is None:
        raise BadRowError("text", NO_QUESTION)
    return of(conversation(turns, "text"))


def _prompt_completion(fields: Fields) -> Example:
    asked = headed(system_of(fields), prompt_of(fields["prompt"], "prompt"))
    return replace(answered(asked, reply_of(fields["completion"], "completion"), "prompt"), tools=tools_of(fields))


def _rewarded(fields: Fields) -> Example:
    asked = messages_of(fields["context"], "context")
    reply = messages_of(fields["generation"], "generation")
    return labelled(of(conversation(asked, "context", reply)), verdict(fields["reward"], "reward"))


def _alpaca(fields: Fields) -> Example:
    turns = instruction_of(fields)
    asked = turns if len(turns) > 1 else str(turns[0]["content"])
    return replace(answered(asked, reply_of(fields["output"], "output"), "instruction"), tools=tools_of(fields))


def _question_answer(fields: Fields) -> Example:
    asked = headed(system_of(fields), need_text(fields["question"], "question"))
    return replace(answered(asked, reply_of(fields["answer"], "answer"), "question"), tools=tools_of(fields))


def _judged(sft: Callable[[Fields], Example]) -> Callable[[Fields], Example]:
    """The reader of the same records with a verdict on the answer."""

    def read(fields: Fields) -> Example:
        key = verdict_key(fields) or LABEL
        example = sft(fields)
        if example.output is None:
            raise BadRowError(key, "is a verdict, and there is no answer that it is on")
        return labelled(example, verdict(fields.get(key), key))

    return read


def _has_verdict(fields: Fields) -> bool:
    return verdict_key(fields) is not None


def _is_trl_kto(fields: Fields) -> bool:
    # TRL's own three keys: what stands under the third is a verdict, whatever it says.
    return any(fields.get(key) not in (None, "") for key in (KTO_TAG, LABEL))


def _is_rendered(fields: Fields) -> bool:
    text = fields["text"]
    return not fields.keys() & _BESIDE_TEXT and isinstance(text, str) and turns_in(text) is not None


def _is_dpo(fields: Fields) -> bool:
    return isinstance(fields["input"], dict)


def _openai_completions(fields: Fields) -> Example:
    return preferences.openai(fields, "preferred_completion", "non_preferred_completion")


_CHAT, _SHAREGPT = frozenset({"messages"}), frozenset({"conversations"})
_TRL, _ALPACA = frozenset({"prompt", "completion"}), frozenset({"instruction", "output"})
_ASKED = frozenset({"question", "answer"})
_BESIDE_TEXT = frozenset({"input", "output", "label"})
_PAIR = frozenset({"chosen", "rejected"})
_OPENAI = frozenset({"input", "preferred_output", "non_preferred_output"})
_OPENAI_BEFORE = frozenset({"input", "preferred_completion", "non_preferred_completion"})
# In order: the first that holds is the shape, so the more particular ones stand before those that they contain. A pair
# often brings the conversation of its better answer along, and a verdict is on an answer that would stand alone too.
_SHAPES = (
    Shape("openai-dpo", _OPENAI, preferences.openai, _is_dpo),
    Shape("openai-dpo-completion", _OPENAI_BEFORE, _openai_completions, _is_dpo),
    Shape("sharegpt-preference", _SHAREGPT | _PAIR, preferences.sharegpt),
    Shape("alpaca-preference", _PAIR | {"instruction"}, preferences.alpaca),
    Shape("question-preference", _PAIR | {"question"}, preferences.question),
    Shape("trl-preference", _PAIR, preferences.trl),
    Shape("trl-kto", _TRL, _judged(_prompt_completion), _is_trl_kto),
    Shape("openai-messages-kto", _CHAT, _judged(_messages), _has_verdict),
    Shape("sharegpt-kto", _SHAREGPT, _judged(_sharegpt), _has_verdict),
    Shape("alpaca-kto", _ALPACA, _judged(_alpaca), _has_verdict),
    Shape("question-answer-kto", _ASKED, _judged(_question_answer), _has_verdict),
    Shape("openai-messages", _CHAT, _messages),
    Shape("sharegpt", _SHAREGPT, _sharegpt),
    Shape("trl-prompt-completion", _TRL, _prompt_completion),
    Shape("alpaca", _ALPACA, _alpaca),
    Shape("rewarded-dialogue", frozenset({"context", "generation", "reward"}), _rewarded),
    Shape("question-answer", _ASKED, _question_answer),
    Shape("trl-text", frozenset({"text"}), _text, _is_rendered),
)
_BY_NAME = {shape.name: shape for shape in _SHAPES}
_KEYS = frozenset().union(*(shape.keys for shape in _SHAPES))
_PLACES = {shape.name: at for at, shape in enumerate(_SHAPES)}
