"""What must not be learnt: training rows that a held-out text would give away."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from services.curation.domain.clusters import Neighbours
from services.curation.domain.rows import Ledger, Row
from services.curation.domain.text import has_digit, jaccard, mark_of, words

_ENDINGS = ("'s", "ies", "es", "s", "ing", "ed", "ly")
_SHORTEST_STEM = 3


@dataclass(frozen=True, slots=True)
class Policy:
    """How rows are checked against held-out texts: the stages in order and the threshold of each.

    Without `lexical` or `semantic` that threshold is calibrated on the rows themselves (`compute.decontaminate`), so
    that about `flagged` of clean rows are flagged in a corpus as narrow as this one.
    """

    stages: tuple[str, ...] = ("exact", "ngram", "lexical", "static", "endpoint")
    ngram: int = 13
    lexical: float | None = None
    flagged: float = 0.002
    semantic: float | None = None
    endpoint: float = 0.85


@dataclass(frozen=True, slots=True)
class Recall:
    """Rewordings of held-out texts planted and found, clean rows and those of them flagged.

    `stages` says how many of the planted ones each stage that ran finds by itself.
    """

    planted: int
    found: int
    clean: int
    flagged: int
    stages: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Hit:
    """Why a row gives a held-out text away: which text, the stage that saw it, its score, and by what."""

    held: int
    stage: str
    score: float
    evidence: str


@dataclass(frozen=True, slots=True)
class Content:
    """What a rewording keeps: the stems of a text's words, with how often each stands, and its distinct numbers."""

    words: Mapping[str, int]
    numbers: frozenset[str]


def content_of(text: str) -> Content:
    """Stems and numbers of a text; `two` and `2` are one number, a currency sign is none of it."""
    said: Counter[str] = Counter()
    numbers: set[str] = set()
    for word in words(text):
        mark = mark_of(word)
        if has_digit(mark):
            numbers.add(mark.strip("$%\u20ac\u00a3\u00a5\u00b0.").removesuffix(".00"))
        else:
            said[stem(word)] += 1
    return Content(said, frozenset(numbers))


@lru_cache(65_536)
def stem(word: str) -> str:
    """The word without a common English ending; three letters stay at least."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            return word.removesuffix(ending)
    return word


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One held-out text: its key, its form (masked word set), the groups it belongs to and who it is."""

    key: str
    form: frozenset[str]
    groups: tuple[str, ...]
    name: str


def withhold(
    rows: Sequence[Row],
    texts: Sequence[HeldOut],
    held: Sequence[HeldOut],
    neighbours: Neighbours,
    threshold: float,
    ledger: Ledger,
) -> int:
    """Remove every row that shares group or text with a held-out one, or whose form is similar at `threshold`.

    `texts[i]` describes `rows[i]`. `neighbours` numbers the held-out texts from 0 and the rows after them; a number or
    identifier alone does not make two texts different here, since it would not to a model. Rows that `neighbours` does
    not propose stay. Returns how many pairs were verified.
    """
    for at in range(len(held)):
        neighbours.add(at)
    keys = {each.key: each.name for each in held}
    forms = {each.form: each.name for each in held}
    groups = {group: each.name for each in held for group in each.groups}
    pairs = 0
    for at, (row, mine) in enumerate(zip(rows, texts, strict=True)):
        reason, other = "", ""
        shared = next((group for group in mine.groups if group in groups), None)
        if shared is not None:
            reason, other = "withheld_group", groups[shared]
        elif mine.key in keys:
            reason, other = "withheld_exact", keys[mine.key]
        elif mine.form in forms:
            reason, other = "withheld_near", forms[mine.form]
        else:
            for candidate in neighbours.near(len(held) + at):
                pairs += 1
                if jaccard(mine.form, held[candidate].form) >= threshold:
                    reason, other = "withheld_near", held[candidate].name
                    break
        if reason:
            ledger.remove(row, reason, f"held out: {other}")
    return pairs
