"""Personal data leaves a segment before it is written: one pass of RE2 over a column finds the few rows to look at."""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from services.ingestion.domain.personal import Pseudonyms, redact

_TEXTS = ("input", "output", "rejected", "system", "history", "messages", "rejected_messages")
_JUDGED = ("output", "rejected")
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
        told: dict[int, Counter[str]] = {}
        for name in _TEXTS:
            values = list(columns[name])
            for at in _suspects(values):
                values[at], found = redact(values[at], self._kinds, self._names)
                if found:
                    told.setdefault(at, Counter()).update(kind for kind, _, _ in found)
            columns[name] = values
        personal = list(columns["personal"])
        for at, counted in told.items():
            personal[at] = json.dumps(dict(sorted(counted.items())))
        columns["personal"] = personal
        # A judgement repeats what this signal says, and what others said before it.
        judgements = list(columns["judgement"])
        # The ids of the rows it heard stand last, and look like numbers of all kinds.
        for at in _suspects([text and text[: text.rfind('"rows":')] for text in judgements]):
            judgements[at] = self._judgement(judgements[at])
        columns["judgement"] = judgements

    def _judgement(self, text: str) -> str:
        said = msgspec.json.decode(text)
        for name in _JUDGED:
            if said.get(name):
                said[name], _ = redact(said[name], self._kinds, self._names)
        return msgspec.json.encode(said).decode()


def _suspects(texts: Sequence[str | None]) -> list[int]:
    """Places of the texts that are worth a look."""
    if not any(texts):
        return []
    hits = pc.match_substring_regex(pa.array(texts, pa.string()), _WORTH_A_LOOK)
    found: list[int] = pc.indices_nonzero(pc.fill_null(hits, False)).to_pylist()
    return found
