"""Personal data leaves a segment before it is written: one pass of RE2 over a column finds the few rows to look at."""

import json
from collections import Counter
from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from services.ingestion.domain.personal import Pseudonyms, redact

_TEXTS = ("input", "output", "rejected", "system", "history", "judgement", "messages", "rejected_messages")
# Whatever a pattern of `domain.personal` can match holds one of these; most rows hold none.
_WORTH_A_LOOK = "|".join(
    (
        r"@",
        r"(?:[0-9][^0-9A-Za-z\n]{0,3}){7}",
        r"[A-Z]{2}[0-9]{2}[ A-Z0-9]",
        r"::",
        r"[0-9A-Fa-f]:[0-9A-Fa-f]",
        r"[0-9]\.[0-9]+\.[0-9]",
    )
)


class Redaction:
    """Replaces values of some kinds by pseudonyms; the same value of a task is the same name everywhere."""

    def __init__(self, kinds: Collection[str], key: str) -> None:
        """`kinds` as in `domain.personal.KINDS`; `key` is the task's own."""
        self._kinds = tuple(kinds)
        self._names = Pseudonyms(key)

    def apply(self, columns: dict[str, Any]) -> None:
        """Redact the text columns of a segment in place, and fill `personal` with what each row held."""
        rows = self._suspects(columns)
        if not rows:
            return
        told: dict[int, Counter[str]] = {}
        for name in _TEXTS:
            values: list[Any] | None = None
            for at in rows:
                text = columns[name][at]
                if not text:
                    continue
                clean, found = redact(text, self._kinds, self._names)
                if found:
                    values = list(columns[name]) if values is None else values
                    values[at] = clean
                    if name != "judgement":
                        told.setdefault(at, Counter()).update(found)
            if values is not None:
                columns[name] = values
        if told:
            columns["personal"] = [
                json.dumps(dict(sorted(told[at].items()))) if at in told else held
                for at, held in enumerate(columns["personal"])
            ]

    def _suspects(self, columns: dict[str, Any]) -> list[int]:
        found: set[int] = set()
        for name in _TEXTS:
            # The judgement repeats what the other columns hold.
            if name == "judgement" or not any(columns[name]):
                continue
            hits = pc.match_substring_regex(pa.array(columns[name], pa.string()), _WORTH_A_LOOK)
            found.update(pc.indices_nonzero(pc.fill_null(hits, False)).to_pylist())
        return sorted(found)
