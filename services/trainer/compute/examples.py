"""Conversations to token ids with the part that is trained marked: the answer and the token that ends it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

from libs.contracts.errors import FailedPrecondition, InvalidInput
from services.trainer.compute.rows import Conversation

_RENDERED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation: `tokens` are ids, `trained` has the same length and says which the loss is taken over."""

    row_id: str
    tokens: tuple[int, ...]
    trained: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """What has one place in the order of training: an example, a pair, or several examples packed into one sequence."""

    item_id: str
    sequences: tuple[Example, ...]
    packed: bool = False
    good: bool = True

    @property
    def length(self) -> int:
        """Tokens of all its sequences."""
        return sum(len(sequence.tokens) for sequence in self.sequences)


def render(
    tokenizer: Any, conversations: Iterator[tuple[str, Conversation]], stops: frozenset[int]
) -> Iterator[Example]:
    """Render with the model's own chat template, in order.

    Args:
        tokenizer: Hugging Face tokenizer with a chat template.
        conversations: Row id and conversation, whose last message is the answer.
        stops: Ids that end an answer; one of them is trained in every example.

    Raises:
        FailedPrecondition: NO_CHAT_TEMPLATE, TEMPLATE_NOT_PREFIX, TEMPLATE_STOP: the template cannot be trained with.
        InvalidInput: NO_ANSWER_TOKENS, with the row whose answer the template does not render.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise FailedPrecondition(
            "the base model has no chat template: put the one it was trained with beside its weights, as "
            "chat_template.jinja",
            reason="NO_CHAT_TEMPLATE", field="base",
        )  # fmt: skip
    while some := list(islice(conversations, _RENDERED_AT_ONCE)):
        yield from _render(tokenizer, some, stops)


def _render(tokenizer: Any, rows: Sequence[tuple[str, Conversation]], stops: frozenset[int]) -> Iterator[Example]:
    pairs: list[tuple[list[int], list[bool]]] = []
    if "{% generation" in tokenizer.chat_template or "{%- generation" in tokenizer.chat_template:
        for tools, some in groupby((talk for _, talk in rows), key=lambda talk: talk.tools):
            rendered = tokenizer.apply_chat_template(
                [talk.form(tokenizer) for talk in some], tools=list(tools) or None,
                tokenize=True, return_dict=True, return_assistant_tokens_mask=True,
            )  # fmt: skip
            masks = [_last_answer(mask) for mask in rendered["assistant_masks"]]
            pairs += zip(rendered["input_ids"], masks, strict=True)
    else:
        pairs = [_by_prefix(tokenizer, talk) for _, talk in rows]
    for (row_id, _), (tokens, trained) in zip(rows, pairs, strict=True):
        if not any(trained):
            raise InvalidInput(
                f"the chat template renders no answer for row {row_id}", reason="NO_ANSWER_TOKENS", row_id=row_id
            )
        yield _with_stop(row_id, list(tokens), list(trained), stops)


def _last_answer(mask: Sequence[int]) -> list[bool]:
    # Earlier answers of a conversation are context: only the last one was judged good.
    end = max((at for at, marked in enumerate(mask) if marked), default=-1)
    start = end
    while start > 0 and mask[start - 1]:
        start -= 1
    return [start <= at <= end and end >= 0 for at in range(len(mask))]


def _by_prefix(tokenizer: Any, talk: Conversation) -> tuple[list[int], list[bool]]:
    messages, tools = talk.form(tokenizer), list(talk.tools) or None
    full = tokenizer.apply_chat_template(messages, tools=tools, tokenize=True, return_dict=True)["input_ids"]
    asked = tokenizer.apply_chat_template(
        messages[:-1], tools=tools, tokenize=True, add_generation_prompt=True, return_dict=True
    )["input_ids"]  # fmt: skip
    if full[: len(asked)] != asked:
        raise FailedPrecondition(
            "the chat template renders the question differently once it is answered, so the answer cannot be "
            "told apart; mark it with {% generation %} in the template",
            reason="TEMPLATE_NOT_PREFIX",
        )
    return full, [at >= len(asked) for at in range(len(full))]


def _with_stop(row_id: str, tokens: list[int], trained: list[bool], stops: frozenset[int]) -> Example:
    start = trained.index(True)
    stop = next((at for at in range(start, len(tokens)) if tokens[at] in stops), None)
    end = max(at for at, marked in enumerate(trained) if marked)
    if stop is None:
        # A model that never saw the end of an answer does not end its answers.
        tokens = [*tokens[: end + 1], min(stops)]
        trained = [*trained[: end + 1], True]
    elif stop > end + 1:
        raise FailedPrecondition(
            "the chat template puts text between the answer and its stop token", reason="TEMPLATE_STOP"
        )
    else:
        # What follows the stop token is never generated, so it is neither trained nor read.
        tokens, trained = tokens[: stop + 1], [*trained[:stop], True]
    return Example(row_id, tuple(tokens), tuple(trained))
