"""What is asked of a teacher, and which of its answers are worth learning."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from libs.contracts.task.recipe import TeacherEndpoint

LEAST_USABLE = 0.5


def request_of(teacher: TeacherEndpoint, messages: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Body of a chat completion for the question of a row: its messages without the answer."""
    return {
        "model": teacher.model,
        "messages": [dict(message) for message in messages[:-1]],
        "max_tokens": teacher.max_tokens,
        "temperature": teacher.temperature,
        "seed": 0,
    }


def key_of(teacher: TeacherEndpoint, body: Mapping[str, Any]) -> str:
    """Name under which the answer to a request is kept."""
    text = json.dumps([teacher.endpoint, body], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def keeps_gold(row_id: str, share: float, seed: int) -> bool:
    """Whether a row keeps its own answer: a fixed draw per row."""
    return random.Random(f"pawl/gold/{seed}/{row_id}").random() < share


def usable(answer: str, finish: str, output_format: str) -> bool:
    """Whether an answer can be learned: whole, not empty, and JSON where the task's answers are."""
    if finish == "length" or not answer.strip():
        return False
    if output_format == "json":
        try:
            json.loads(answer)
        except ValueError:
            return False
    return True
