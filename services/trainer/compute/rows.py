"""The lines of a dataset version as conversations, with the wrong answer or the verdict some of them carry."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.contracts.errors import FailedPrecondition, InvalidInput

_MAX_LINE_BYTES = 4 * 1024 * 1024
_VERDICTS = {True: True, False: False, "good": True, "bad": False}

Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Row:
    """One line: a conversation that ends with an answer, the same with a wrong answer, and whether the answer is good.

    `good` is None where nobody said; such an answer is one to learn.
    """

    row_id: str
    messages: Messages
    rejected: Messages | None = None
    good: bool | None = None


def read_rows(path: Path) -> Iterator[Row]:
    """Lines `{"row_id", "messages"}`, optionally with `rejected` (text or messages) and `label` (good or bad).

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
        messages = _messages(held["messages"])
        row_id = str(held["row_id"])
        rejected = _rejected(held.get("rejected"), messages)
        label = held.get("label")
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{where} is not a chat row: {error!r}", reason="DATASET_INVALID") from error
    if not messages or messages[-1]["role"] != "assistant":
        raise InvalidInput(f"{where} does not end with an assistant message", reason="DATASET_INVALID")
    if label is not None and label not in _VERDICTS:
        raise InvalidInput(f"{where}: label {label!r} is neither good nor bad", reason="DATASET_INVALID", field="label")
    return Row(row_id, messages, rejected, None if label is None else _VERDICTS[label])


def _messages(held: Any) -> Messages:
    return [{"role": str(message["role"]), "content": str(message["content"])} for message in held]


def _rejected(held: Any, messages: Messages) -> Messages | None:
    if held is None or held == "":
        return None
    if isinstance(held, str):
        return [*messages[:-1], {"role": "assistant", "content": held}]
    said = _messages(held)
    if said[-1]["role"] != "assistant":
        raise ValueError("rejected does not end with an assistant message")
    # A list may be the whole conversation or its last part alone.
    return said if said[: len(messages) - 1] == messages[:-1] else [*messages[:-1], *said]
