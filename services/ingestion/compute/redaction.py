"""Personal data leaves a segment before it is written: one pass of RE2 over its texts finds the few to look at."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from itertools import chain, compress
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from libs.contracts.leaves import rewritten
from libs.contracts.pseudonyms import SURROGATE, TOKEN, Pseudonyms
from services.ingestion.domain.judgement import Judgement
from services.ingestion.domain.personal import KINDS, SIGNS, redact

_TEXTS = ("input", "output", "rejected", "system", "history", "messages", "rejected_messages", "comment")
# A letter, digit or mark of ASCII that JSON writes as an escape: what such a text holds is seen once it is decoded.
_ESCAPED = r"\\u00[2-7]|\\/"
_ANY_SIGN = "|".join((*SIGNS.values(), _ESCAPED))

Cleaned = dict[str, tuple[str, Counter[str], frozenset[str]]]
"""Texts that hold personal data: what each becomes, how many values of each kind it held, and their pseudonyms."""


class Redaction:
    """Replaces values of some kinds by pseudonyms; the same value of a task is the same name everywhere."""

    def __init__(self, kinds: Collection[str], key: bytes, style: str = TOKEN) -> None:
        """`kinds` as in `domain.personal.KINDS`; `key` is the task's own, as `libs.contracts.pseudonyms` has it."""
        self._kinds = tuple(kinds)
        self._names = Pseudonyms(key, style)
        self._told = style == SURROGATE

    def apply(self, columns: dict[str, Any]) -> None:
        """Redact the texts and judgements of a segment in place, and fill `personal` with what each row held.

        Where pseudonyms look like values, `pseudonyms` lists them: who redacts again would rename them otherwise.
        """
        texts = [columns[name] for name in _TEXTS]
        # A judgement repeats what this signal says, and what others said before it.
        judged = [(each.output, each.rejected) if each is not None else () for each in columns["judgement"]]
        cleaned = self._cleaned(chain(*texts, *judged))
        if not cleaned:
            return
        told: dict[int, Counter[str]] = {}
        named: dict[int, set[str]] = defaultdict(set)
        for name in _TEXTS:
            if cleaned.keys().isdisjoint(columns[name]):
                continue
            columns[name] = values = list(columns[name])
            for at, text in enumerate(values):
                if text in cleaned:
                    values[at], kinds, names = cleaned[text]
                    told[at] = told[at] + kinds if at in told else kinds
                    if self._told:
                        named[at] |= names
        columns["personal"] = personal = list(columns["personal"])
        for at, counted in told.items():
            personal[at] = _as_json(*sorted(counted.items()))
        if self._told:
            columns["pseudonyms"] = _listed(columns["pseudonyms"], named, judged, cleaned)
        columns["judgement"] = [each and _judged(each, cleaned) for each in columns["judgement"]]

    def _cleaned(self, texts: Iterable[str | None]) -> Cleaned:
        distinct = [text for text in dict.fromkeys(texts) if text]
        arrow = pa.array(distinct, pa.string())
        hits = arrow.filter(pc.match_substring_regex(arrow, _ANY_SIGN))
        held = [pc.match_substring_regex(hits, sign).to_pylist() for sign in (_ESCAPED, *SIGNS.values())]
        cleaned: Cleaned = {}
        for text, escaped, *shown in zip(hits.to_pylist(), *held, strict=True):
            clean, found = self._redacted(text, KINDS if escaped else list(compress(SIGNS, shown)))
            if found:
                cleaned[text] = clean, Counter(kind for kind, _, _ in found), frozenset(name for _, _, name in found)
        return cleaned

    def _redacted(self, text: str, among: Collection[str]) -> tuple[str, list[tuple[str, str, str]]]:
        """As `redact`; of JSON each string and number by itself."""
        found: list[tuple[str, str, str]] = []

        def now(leaf: str, _label: str) -> str:
            clean, held = redact(leaf, self._kinds, self._names, among)
            found.extend(held)
            return clean

        return rewritten(text, now), found


@lru_cache(1024)  # most rows hold one value, or none
def _as_json(*counted: tuple[str, int]) -> str:
    return json.dumps(dict(counted))


def _listed(
    before: Iterable[str | None], named: dict[int, set[str]], judged: Sequence[tuple[str | None, ...]], cleaned: Cleaned
) -> list[str | None]:
    for at, said in enumerate(judged):
        for text in said:
            if text in cleaned:
                named[at] |= cleaned[text][2]
    listed = list(before)
    for at, given in named.items():
        listed[at] = json.dumps(sorted(given), ensure_ascii=False)
    return listed


def _judged(judgement: Judgement, cleaned: Cleaned) -> Judgement:
    if judgement.output not in cleaned and judgement.rejected not in cleaned:
        return judgement
    output, rejected = (
        cleaned[text][0] if text in cleaned else text for text in (judgement.output, judgement.rejected)
    )
    return msgspec.structs.replace(judgement, output=output, rejected=rejected)
