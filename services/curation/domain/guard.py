"""The critical-difference guard: what two texts differ in that makes them say different things.

This is the reference in plain Python; `compute.near` decides the same on columns and is tested against it.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from services.curation.domain.guard_measures import DATES, UNITS
from services.curation.domain.guard_opposites import OPPOSITES
from services.curation.domain.guard_substitutes import SHOUTED, substituted
from services.curation.domain.guard_words import NEGATIONS
from services.curation.domain.signs import fold
from services.curation.domain.text import cased_words, mark_of, words

NOUNS = 0.15
"""A corpus with a greater share of capitals within sentences (German) tells nothing by its case."""


class Kind(StrEnum):
    """What two similar texts differ in."""

    NUMBER = "number"
    DATE = "date"
    UNIT = "unit"
    NEGATION = "negation"
    POLARITY = "polarity"
    ENTITY = "entity"
    WORD = "word"
    ANSWER = "answer"


MARKED = (Kind.NUMBER, Kind.DATE, Kind.UNIT, Kind.NEGATION, Kind.POLARITY)
"""The kinds that words tell by themselves, as `marks` reads them."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The first kind of difference and the marks of either side, in order."""

    kind: Kind
    left: tuple[str, ...]
    right: tuple[str, ...]


def difference(
    left: str, right: str, names: Collection[str] = frozenset(), counts: Mapping[str, int] | None = None
) -> Difference | None:
    """What makes two texts say different things: numbers and identifiers, dates, measures, negations, opposites or
    names, as ordered sequences, or in short texts a word in the place of another; None when nothing does. `names` are
    words known as names (`known_names` of the corpus), `counts` tells how common words are (`counts_of` of it).
    """
    mine, other = words(left), words(right)
    for kind in MARKED:
        ours, theirs = marks(mine, kind), marks(other, kind)
        if ours != theirs:
            return Difference(kind, ours, theirs)
    ours, theirs = (tuple(dict.fromkeys(word for word in side if word in names)) for side in (mine, other))
    if ours != theirs:
        return Difference(Kind.ENTITY, ours, theirs)
    told = substituted(left, right, counts or {})
    return Difference(Kind.WORD, *told) if told else None


def marks(tokens: Iterable[str], kind: Kind) -> tuple[str, ...]:
    """The critical marks of one kind among the words, in order."""
    return tuple(mark_of(word) for word in tokens if mark_of(word) and kind_of(word) is kind)


def kind_of(word: str) -> Kind:
    """The kind of a critical word."""
    listed = ((Kind.DATE, DATES), (Kind.UNIT, UNITS), (Kind.NEGATION, NEGATIONS), (Kind.POLARITY, OPPOSITES))
    return next((kind for kind, known in listed if word in known), Kind.NUMBER)


def known_names(texts: Iterable[str]) -> frozenset[str]:
    """Words that stand capitalised within sentences in at least as many texts as they stand in lower case.

    The corpus says what a name is, so that a name typed in lower case is still known as one.
    """
    capitals: dict[str, int] = {}
    lower: dict[str, int] = {}
    total = within = 0
    for text in texts:
        found = capitalised(text)
        tokens = [word for word, _, _ in cased_words(text)]
        total, within = total + max(1, len(tokens)), within + len(found)
        for word in found:
            capitals[word] = capitals.get(word, 0) + 1
        for word in {word.lower() for word in tokens if "a" <= word[0] <= "z"}:
            lower[word] = lower.get(word, 0) + 1
    if within > NOUNS * total:
        return frozenset()
    return frozenset(word for word, count in capitals.items() if count >= lower.get(word, 0))


def capitalised(text: str) -> set[str]:
    """Words with a capital within a sentence (after a word or a comma and one blank), lower-cased; none of a text
    that shouts.
    """
    found, capitals = set[str](), 0
    tokens = cased_words(text)
    padded = f"\x00\x00{fold(text)}"
    for word, start, _ in tokens:
        if not "A" <= word[0] <= "Z":
            continue
        capitals += 1
        before = padded[start : start + 2]
        within = before[1] == " " and (before[0] == "," or _ends_word(before[0]))
        if within and len(word) > 1 and not word.startswith("I'"):
            found.add(word.lower())
    return found if capitals <= SHOUTED * len(tokens) else set()


def _ends_word(sign: str) -> bool:
    return sign.isalnum() or sign in "$%" or not sign.isascii()
