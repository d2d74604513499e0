"""Personal data leaves a segment before it is written: one pass of RE2 over a column finds the few rows to look at."""

import json
from collections import Counter
from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from services.ingestion.domain.personal import Pseudonyms, redact

_TEXTS = ("input", "output", "rejected", "system", "history", "messages", "rejected_messages")
# Whatever a pattern of `domain.personal` can match holds one of these; most rows hold none.
_WORTH_A_LOOK = r"@|[0-9][0-9 ()./-]{5}|[A-Z]{2}[0-9]{2}[ A-Z0-9]|::|[0-9A-Fa-f]:[0-9A-Fa-f]{1,4}:|[0-9]\.[0-9]+\.[0-9]"


class Redaction:
    """Replaces values of some kinds by pseudonyms; the same value of a task is the same name everywhere."""

    def __init__(self, kinds: Collection[str], key: str) -> None:
        """`kinds` as in `domain.personal.KINDS`; `key` is the task's own."""
        self._kinds = tuple(kinds)
        self._names = Pseudonyms(key)

    def apply(self, columns: dict[str, Any]) -> None:
        """Redact the text columns of a segment in place, and fill `personal` with what each row held."""
        rows = self._suspects(columns)
        told: dict[int, Counter[str]] = {}
        replaced: dict[int, list[tuple[str, str]]] = {}
        for name in _TEXTS if rows else ():
            values: list[Any] | None = None
            for at in rows:
                text = columns[name][at]
                if not text:
                    continue
                clean, found = redact(text, self._kinds, self._names)
                if found:
                    values = list(columns[name]) if values is None else values
                    values[at] = clean
                    told.setdefault(at, Counter()).update(kind for kind, _, _ in found)
                    replaced.setdefault(at, []).extend((value, named) for _, value, named in found)
            if values is not None:
                columns[name] = values
        if told:
            self._tell(columns, told, replaced)

    def _tell(
        self, columns: dict[str, Any], told: dict[int, Counter[str]], replaced: dict[int, list[tuple[str, str]]]
    ) -> None:
        judgements, personal = list(columns["judgement"]), list(columns["personal"])
        for at, counted in told.items():
            personal[at] = json.dumps(dict(sorted(counted.items())))
            if judgements[at]:
                # It repeats what the other columns hold; no value holds a sign that JSON would write otherwise.
                for value, named in sorted(replaced[at], key=lambda each: -len(each[0])):
                    judgements[at] = judgements[at].replace(value, named)
        columns["judgement"], columns["personal"] = judgements, personal

    def _suspects(self, columns: dict[str, Any]) -> list[int]:
        found: set[int] = set()
        for name in _TEXTS:
            if not any(columns[name]):
                continue
            hits = pc.match_substring_regex(pa.array(columns[name], pa.string()), _WORTH_A_LOOK)
            found.update(pc.indices_nonzero(pc.fill_null(hits, False)).to_pylist())
        return sorted(found)
