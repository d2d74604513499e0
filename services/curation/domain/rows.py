"""A row on its way into a dataset version."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from services.curation.domain.ledger import Ledger
from services.curation.domain.messages import rewritten_tools, rewritten_turns, rewritten_whole, text_of

EXAMPLE = "example"
CORRECTION = "correction"
SYNTHETIC = "synthetic"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the segments, in order of arrival; steps make changed copies.

    `history` is the JSON of the turns before `input`, `answer` what is to be learnt (None: nothing is), `rejected` an
    answer that was wrong, `label` whether `answer` was good where only that is known, `user` the hash of who sent it
    and `subject` of who asked, `tools` JSON. `input_as` and `answer_as` are the JSON of the whole message where that is
    more than a role and text; the latter is of `rejected` where there is no `answer`. `form` is what ingestion says the
    row can train, `judgement` what all signals on its request said by its `revision`, `review` why a person should look
    at it, `comment` what users said of the answer in free text. `lineage` is the JSON of what a synthetic row was made
    from. `conversation` (the public name of `group`), `split_group` and `split` are set by grouping. `stands_for`
    counts rows merged into it, `weight` (0 to 1) is what each of them counts for. `named` are pseudonyms in it that
    look like personal data. `dated` is whether `created_at` is what the row says, and not only when it came.
    """

    row_id: str
    kind: str
    source: str
    input: str
    answer: str | None
    signal: str
    created_at: datetime
    system: str | None = None
    history: str | None = None
    category: str | None = None
    group: str | None = None
    request_id: str | None = None
    consent: bool | None = None
    user: str | None = None
    weight: float = 1.0
    licence: str | None = None
    rejected: str | None = None
    label: bool | None = None
    tools: str | None = None
    input_as: str | None = None
    answer_as: str | None = None
    form: str | None = None
    confidence: float | None = None
    revision: int | None = None
    judgement: str | None = None
    review: str | None = None
    lineage: str | None = None
    subject: str | None = None
    comment: str | None = None
    named: frozenset[str] = frozenset()
    conversation: str | None = None
    split_group: str = ""
    split: str = ""
    stands_for: int = 1
    dated: bool = True

    @property
    def content(self) -> tuple[Any, ...]:
        """What an edit may change of what is learnt; a comment is for people alone."""
        return (
            self.input, self.answer, self.system, self.history, self.category, self.rejected, self.tools, self.label,
            self.kind, self.source, self.input_as, self.answer_as,
        )  # fmt: skip


def trust(row: Row) -> int:
    """How far a row's answer is trusted: what somebody wrote outranks what somebody approved."""
    return {CORRECTION: 3, "preference": 2}.get(row.kind, 1)


def seeds_of(row: Row) -> list[str]:
    """The rows a synthetic row was made from."""
    return list(json.loads(row.lineage).get("seeds", [])) if row.lineage else []


def asked(row: Row) -> str:
    """What is asked: earlier turns and the input."""
    if not row.history:
        return row.input
    return "\n".join([*_contents(row.history), row.input])


@lru_cache(4096)
def _contents(history: str) -> tuple[str, ...]:
    return tuple(text_of(turn.get("content")) for turn in json.loads(history))


def rewritten(row: Row, change: Callable[[str], str]) -> Row:
    """The row with `change` made to every text of the conversation, to both answers and to what was said of them."""
    text, input_as = rewritten_whole(row.input, row.input_as, change)
    answer, rejected, answer_as = row.answer, row.rejected, row.answer_as
    if answer is not None:
        answer, answer_as = rewritten_whole(answer, answer_as, change)
        rejected = change(rejected) if rejected is not None else None
    elif rejected is not None:
        rejected, answer_as = rewritten_whole(rejected, answer_as, change)
    return replace(
        row, input=text, input_as=input_as, answer=answer, rejected=rejected, answer_as=answer_as,
        system=change(row.system) if row.system else None,
        history=rewritten_turns(row.history, change),
        comment=change(row.comment) if row.comment else None,
    )  # fmt: skip


def said(row: Row, change: Callable[[str], str]) -> Row:
    """The row with `change` made to every text that anybody may have said in it, what its tools say too."""
    return replace(rewritten(row, change), tools=rewritten_tools(row.tools, change))


def texts_of(row: Row) -> list[str]:
    """Every text of the row that `said` may change."""
    found: list[str] = []

    def note(text: str) -> str:
        found.append(text)
        return text

    said(row, note)
    return found


__all__ = [
    "CORRECTION",
    "EXAMPLE",
    "SYNTHETIC",
    "Ledger",
    "Row",
    "asked",
    "rewritten",
    "said",
    "seeds_of",
    "texts_of",
    "trust",
]
