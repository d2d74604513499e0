"""What makes two rows ask and teach the same: the text, what frames it and, where pairs are learnt, what lost."""

import json
from functools import lru_cache
from typing import Any

from libs.contracts.answers import canonical_answer, single_spaced
from libs.contracts.task import TaskSpec
from libs.contracts.task.recipe import method_of
from services.curation.domain.messages import dump
from services.curation.domain.rows import Row, asked
from services.curation.domain.text import spelling_of

_SAID, _IDS = "content", ("id", "tool_call_id")


class Identity:
    """Reads the rows of one task.

    A question framed otherwise is another one: by another system prompt (the task's, where a row has none), by other
    tools, by other speakers, or by other calls before it. Ids of calls say nothing.
    """

    def __init__(self, spec: TaskSpec) -> None:
        self._system = spec.system
        self._pairs = method_of(spec.recipe) == "dpo"

    def question(self, row: Row) -> tuple[str, str]:
        """Equal for rows that ask the same."""
        return spelling_of(asked(row)), self.frame(row)

    def taught(self, row: Row) -> tuple[str, bool, str]:
        """Equal for rows whose answers teach the same."""
        return canonical_answer(row.answer or ""), row.label is False, self.beaten(row)

    def pair(self, row: Row) -> tuple[object, ...]:
        """Equal for rows that ask and teach the same."""
        return *self.question(row), *self.taught(row)

    def disputed(self, row: Row) -> tuple[object, ...]:
        """Equal for rows that contradict each other where their answers differ: one question has one answer.

        A pair to learn from does not say that there is no other good answer: only the same pair the other way round
        contradicts it.
        """
        beaten = self.beaten(row)
        return (*self.question(row), *sorted((canonical_answer(row.answer or ""), beaten) if beaten else ()))

    def beaten(self, row: Row) -> str:
        """The answer that lost, where the task learns from pairs; elsewhere empty."""
        return canonical_answer(row.rejected) if self._pairs and row.rejected is not None else ""

    def frame(self, row: Row) -> str:
        """What stands around the text, as JSON."""
        system = single_spaced(row.system or self._system)
        return dump([system, _tools(row.tools), _turns(row.history), _speaker(row.input_as)])


@lru_cache(4096)
def _tools(tools: str | None) -> str:
    return canonical_answer(tools or "")


@lru_cache(4096)
def _turns(history: str | None) -> list[dict[str, Any]]:
    return [_framed(turn) for turn in json.loads(history)] if history else []


@lru_cache(4096)
def _speaker(input_as: str | None) -> dict[str, Any]:
    return _framed(json.loads(input_as)) if input_as else {"role": "user"}


def _framed(turn: dict[str, Any]) -> dict[str, Any]:
    around = {name: each for name, each in sorted(turn.items()) if name != _SAID and name not in _IDS and each}
    if calls := around.get("tool_calls"):
        around["tool_calls"] = [
            [call["function"]["name"], canonical_answer(call["function"].get("arguments") or "{}")] for call in calls
        ]
    return around


__all__ = ["Identity"]
