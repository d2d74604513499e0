"""The lines of a dataset version as conversations, with the wrong answer or the verdict some of them carry."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.contracts.errors import FailedPrecondition, InvalidInput
from libs.contracts.inference import Message
from libs.contracts.tooling import Rendered, in_form, read_message

_MAX_LINE_BYTES = 4 * 1024 * 1024
_VERDICTS = {True: True, False: False, "good": True, "bad": False}

Tools = tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages, the last of them the answer, and the tools that were offered."""

    messages: tuple[Message, ...]
    tools: Tools = ()

    def form(self, tokenizer: Any) -> Rendered:
        """As the tokenizer's chat template is given it: serving gives it a conversation in the same way."""
        return in_form(str(tokenizer.chat_template), self.messages, self.tools)


@dataclass(frozen=True, slots=True)
class Row:
    """One line: a conversation that ends with an answer, the same with a wrong answer, and whether the answer is good.

    `good` is None where nobody said; such an answer is one to learn.
    """

    row_id: str
    talk: Conversation
    rejected: Conversation | None = None
    good: bool | None = None


def read_rows(path: Path) -> Iterator[Row]:
    """Lines `{"row_id", "messages"}`, optionally `tools`, `rejected` (text or messages) and `label` (good or bad).

    Raises FailedPrecondition when the file is missing and InvalidInput naming the line that is not such a row.
    """
    if not path.is_file():
        raise FailedPrecondition(f"the dataset version has no {path.name}", reason="DATASET_INVALID")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _row(line, f"{path.name} line {number}")


def _row(line: bytes, where: str) -> Row:
    if len(line) > _MAX_LINE_BYTES:
        raise InvalidInput(f"{where} is longer than {_MAX_LINE_BYTES} bytes", reason="DATASET_INVALID")
    try:
        held = json.loads(line)
        tools = tuple(held.get("tools") or ())
        messages = _messages(held["messages"])
        row_id = str(held["row_id"])
        rejected = _rejected(held.get("rejected"), messages)
        label = held.get("label")
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error.field}: {error}", reason="DATASET_INVALID", field=error.field) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{where} is not a chat row: {error!r}", reason="DATASET_INVALID") from error
    if not messages or messages[-1].role != "assistant":
        raise InvalidInput(f"{where} does not end with an assistant message", reason="DATASET_INVALID")
    if label is not None and label not in _VERDICTS:
        raise InvalidInput(f"{where}: label {label!r} is neither good nor bad", reason="DATASET_INVALID", field="label")
    return Row(
        row_id, Conversation(messages, tools), Conversation(rejected, tools) if rejected else None,
        None if label is None else _VERDICTS[label],
    )  # fmt: skip


def _messages(held: Any) -> tuple[Message, ...]:
    return tuple(read_message(message, f"messages.{at}") for at, message in enumerate(held))


def _rejected(held: Any, messages: tuple[Message, ...]) -> tuple[Message, ...] | None:
    if held is None or held == "":
        return None
    if isinstance(held, str):
        return (*messages[:-1], Message(role="assistant", content=held))
    said = _messages(held)
    if said[-1].role != "assistant":
        raise ValueError("rejected does not end with an assistant message")
    # A list may be the whole conversation or its last part alone.
    return said if said[: len(messages) - 1] == messages[:-1] else (*messages[:-1], *said)
