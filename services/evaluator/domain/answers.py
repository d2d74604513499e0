"""Answers of the arms, and the key under which an answer is kept and found again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from libs.contracts.ids import digest_bytes
from libs.contracts.inference import Message, Provenance
from libs.contracts.tooling import calls_as_text

ENGINE_MODE = "served through the gateway, greedy"


@dataclass(frozen=True, slots=True)
class Answer:
    """What an arm answered to an item; `error` where serving refused it (it counts as wrong).

    `seconds` is from request to whole answer under the load of the evaluation. `made_in` is the report that it was
    generated for.
    """

    item_id: str
    text: str
    provenance: Provenance
    error: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    made_in: str = ""


@dataclass(frozen=True, slots=True)
class Arm:
    """One contender with its answers by item id; two names may share one version.

    `engine` is empty for what was served through the gateway, else it names the outside model. `recipe` is the digest
    of how questions were dressed (system prompt, examples, passages), empty for bare ones.
    """

    name: str
    version: int
    digest: str
    answers: Mapping[str, Answer]
    kind: str = ""
    engine: str = ""
    recipe: str = ""


def answer_key(
    who: str, system: str, messages: Sequence[Message], max_tokens: int, occasion: str = "", tools: str = ""
) -> str:
    """Digest of all that a greedy answer depends on.

    Args:
        who: Version digest, or the name of an outside model.
        system: The task's system prompt, which the gateway adds where the messages bring none.
        messages: The question.
        max_tokens: Limit of the answer.
        occasion: Not empty where an answer must not be found again: a repetition, a model that is not ours.
        tools: JSON of the tools offered.
    """
    seen = "" if any(message.role == "system" for message in messages) else system
    parts = {
        "who": who,
        "system": seen,
        "messages": [_told(message) for message in messages],
        "max_tokens": max_tokens,
        "mode": ENGINE_MODE,
        "occasion": occasion,
    }
    if tools:
        parts["tools"] = tools
    return digest_bytes(json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode())


def _told(message: Message) -> list[str]:
    # Answers of questions without tools are found under the keys they have always had.
    told = [message.role, message.content]
    if message.tool_calls or message.tool_call_id:
        told += [calls_as_text(message.tool_calls), message.tool_call_id]
    return told
