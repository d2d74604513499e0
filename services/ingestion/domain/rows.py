"""A row of a segment: one import or one signal, ready to be stored."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from json.encoder import encode_basestring

import msgspec

from libs.contracts.feedback import FeedbackKind
from libs.contracts.ids import user_hash
from libs.contracts.inference import Message
from services.ingestion.domain.judgement import Judgement

EXAMPLE = "example"
OTHER = "other"
MOST_NAMES = 200
"""Sources, or categories, of a segment that are told by name."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """One row, a struct since there are millions; its fields are the columns of a segment. Times are aware UTC.

    `history` holds the turns before `input` as JSON (a list of role and content), None for a single turn. `user`
    and `subject` are hashes. `signal` is good, bad or neutral. `version` is the model version that answered. What
    the other columns hold is written beside their schema, in `compute.segments`.
    """

    row_id: str
    kind: str
    source: str
    input: str
    output: str | None
    signal: str
    created_at: datetime
    arrived_at: datetime
    system: str | None = None
    history: str | None = None
    rejected: str | None = None
    category: str | None = None
    group: str | None = None
    user: str | None = None
    segment: str | None = None
    request_id: str | None = None
    weight: float = 1.0
    consent: bool | None = None
    licence: str | None = None
    version: int | None = None
    messages: str | None = None
    tools: str | None = None
    rejected_messages: str | None = None
    form: str | None = None
    label: bool | None = None
    confidence: float | None = None
    review: str | None = None
    revision: int | None = None
    judgement: Judgement | None = None
    personal: str | None = None
    subject: str | None = None
    comment: str | None = None
    pseudonyms: str | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """What a segment holds: rows per kind, source and category, and corrections per source."""

    kinds: dict[str, int]
    sources: dict[str, int]
    corrections: dict[str, int]
    categories: dict[str, int]


class Prompt(msgspec.Struct, frozen=True, gc=False):
    """The request part of a conversation: system prompt, earlier turns as JSON, and the last user message."""

    system: str | None
    history: str | None
    input: str


def count(rows: Sequence[Row]) -> Counts:
    """Count rows per kind, source and category (rows without a category are not counted there).

    Of each the `MOST_NAMES` commonest are told by name.
    """
    # Few differ in all three, so that the rows are gone through once.
    kinds, sources, corrections, categories = (Counter[str]() for _ in range(4))
    for (kind, source, category), held in Counter((row.kind, row.source, row.category) for row in rows).items():
        kinds[str(kind)] += held
        sources[source] += held
        if kind == FeedbackKind.CORRECTION:
            corrections[source] += held
        if category:
            categories[category] += held
    return Counts(*(_told(each) for each in (kinds, sources, corrections, categories)))


def _told(counted: Counter[str]) -> dict[str, int]:
    """The commonest names, and what the rest of them count together as `other`: a fact has a bounded size."""
    told = Counter(dict(counted.most_common(MOST_NAMES)))
    if rest := counted.total() - told.total():
        told[OTHER] += rest
    return dict(sorted(told.items()))


def prompt_of(messages: Sequence[Message]) -> Prompt:
    """Split the messages of a request; the last user message is the input, whatever stands before it the history.

    Where the assistant's own words are last, there is no input: an answer is said after them, and not to the user.
    """
    system = "\n\n".join(message.content for message in messages if message.role == "system") or None
    turns = [message for message in messages if message.role != "system"]
    if turns and turns[-1].role == "assistant":
        return Prompt(system, _history(turns), "")
    last = next((at for at in range(len(turns) - 1, -1, -1) if turns[at].role == "user"), None)
    if last is None:
        return Prompt(system, None, "")
    return Prompt(system, _history(turns[:last]), turns[last].content)


def _history(turns: Sequence[Message]) -> str | None:
    earlier = [{"role": turn.role, "content": turn.content} for turn in turns]
    return json.dumps(earlier, ensure_ascii=False, separators=(",", ":")) if earlier else None


def stable_id(prefix: str, *parts: object) -> str:
    """An id that the same parts always get: `<prefix>-<32 hex digits>`."""
    # The JSON of the list; an encoder made for each of a million rows would cost more than their digests.
    text = "[" + ", ".join([encode_basestring(str(part)) for part in parts]) + "]"
    return f"{prefix}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


@lru_cache(16_384)
def hashed_user(tenant: str, user: str | None) -> str | None:
    """`user_hash`; None stays None."""
    return user_hash(tenant, user) if user else None
