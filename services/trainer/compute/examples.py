"""Rows to token ids with the part that is trained marked: the answer and the token that ends it, nothing else."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from libs.contracts.errors import FailedPrecondition, InvalidInput

_RENDERED_AT_ONCE = 500
_MAX_LINE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Example:
    """One row: `tokens` are ids, `trained` has the same length and says which of them the loss is taken over."""

    row_id: str
    tokens: tuple[int, ...]
    trained: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Examples:
    """What training sees, and how many rows were too long for it."""

    kept: tuple[Example, ...]
    too_long: int

    @property
    def trained_share(self) -> float:
        """Share of tokens the loss is taken over."""
        total = sum(len(example.tokens) for example in self.kept)
        return sum(sum(example.trained) for example in self.kept) / max(1, total)


def read_examples(path: Path, tokenizer: Any, *, stops: frozenset[int], max_length: int) -> Examples:
    """Read `train.jsonl` and render it with the model's chat template.

    Args:
        path: File of lines `{"row_id", "messages"}`.
        tokenizer: Hugging Face tokenizer with a chat template.
        stops: Ids that end an answer; one of them is trained in every row.
        max_length: Longer rows are dropped and counted; cutting one would train a broken answer.

    Raises:
        FailedPrecondition: NO_CHAT_TEMPLATE, DATASET_EMPTY or NOTHING_FITS.
        InvalidInput: A line is not what it should be; names the line.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise FailedPrecondition("the base model has no chat template", reason="NO_CHAT_TEMPLATE")
    kept: list[Example] = []
    too_long = 0
    rows = _rows(path)
    while some := list(islice(rows, _RENDERED_AT_ONCE)):
        for example in _render(tokenizer, some, stops):
            if len(example.tokens) > max_length:
                too_long += 1
            else:
                kept.append(example)
    if not kept and too_long:
        raise FailedPrecondition(
            f"all {too_long} training rows are longer than recipe.max_length = {max_length} tokens",
            reason="NOTHING_FITS", field="recipe.max_length",
        )  # fmt: skip
    if not kept:
        raise FailedPrecondition("the dataset version has no training rows", reason="DATASET_EMPTY")
    return Examples(tuple(kept), too_long)


def _rows(path: Path) -> Iterator[tuple[str, list[dict[str, str]]]]:
    if not path.is_file():
        raise FailedPrecondition(f"the dataset version has no {path.name}", reason="DATASET_INVALID")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path.name} line {number}"
            if len(line) > _MAX_LINE_BYTES:
                raise InvalidInput(f"{where} is longer than {_MAX_LINE_BYTES} bytes", reason="DATASET_INVALID")
            try:
                row = json.loads(line)
                messages = [{"role": str(m["role"]), "content": str(m["content"])} for m in row["messages"]]
                row_id = str(row["row_id"])
            except (ValueError, KeyError, TypeError) as error:
                raise InvalidInput(f"{where} is not a chat row: {error!r}", reason="DATASET_INVALID") from error
            if not messages or messages[-1]["role"] != "assistant":
                raise InvalidInput(f"{where} does not end with an assistant message", reason="DATASET_INVALID")
            yield row_id, messages


def _render(
    tokenizer: Any, rows: Sequence[tuple[str, list[dict[str, str]]]], stops: frozenset[int]
) -> Iterator[Example]:
    conversations = [messages for _, messages in rows]
    if "{% generation" in tokenizer.chat_template or "{%- generation" in tokenizer.chat_template:
        rendered = tokenizer.apply_chat_template(
            conversations, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        masks = [_last_answer(mask) for mask in rendered["assistant_masks"]]
        pairs = list(zip(rendered["input_ids"], masks, strict=True))
    else:
        pairs = [_by_prefix(tokenizer, messages) for messages in conversations]
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


def _by_prefix(tokenizer: Any, messages: list[dict[str, str]]) -> tuple[list[int], list[bool]]:
    full = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
    asked = tokenizer.apply_chat_template(
        messages[:-1], tokenize=True, add_generation_prompt=True, return_dict=True
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
