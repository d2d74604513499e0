"""Perturbations that change what a text says, one for each class of difference the guard claims: hard negatives."""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from services.curation.domain.guard import known_names
from services.curation.domain.guard_measures import OTHER_DATES, OTHER_MONEY, OTHER_UNITS
from services.curation.domain.guard_opposites import OPPOSITE_OF
from services.curation.domain.guard_substitutes import SHORT, tells, variants
from services.curation.domain.guard_words import NEGATIONS, NUMBERS
from services.curation.domain.text import words

_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*|[$€£¥]")
_AUXILIARY = re.compile(
    r"\b(is|are|was|were|do|does|did|can|could|will|would|should|must|have|has|ist|sind|kann)\b", re.IGNORECASE
)

Hard = Callable[[str, random.Random, "Corpus"], str | None]


@dataclass(frozen=True, slots=True)
class Corpus:
    """What may stand in the place of another word: names that the texts know, and words that say something."""

    names: tuple[str, ...]
    telling: tuple[str, ...]

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Corpus":
        """Read the texts."""
        names = known_names(texts)
        found = {word for text in texts for word in words(text) if word.isalpha() and len(word) > 2}
        return cls(tuple(sorted(names)), tuple(sorted(word for word in found - names if tells(word))))


def number(text: str, rng: random.Random, _corpus: Corpus) -> str | None:
    """One number changed, in digits or in words."""
    places = [match.span() for match in re.finditer(r"\d+", text)]
    if not places:
        spelt = sorted(NUMBERS)
        return _replaced(text, rng, lambda word: [each for each in spelt if NUMBERS[each] != NUMBERS[word]], NUMBERS)
    start, end = rng.choice(places)
    return text[:start] + str(int(text[start:end][-15:]) + rng.randint(1, 9)) + text[end:]


def date(text: str, rng: random.Random, _corpus: Corpus) -> str | None:
    """Another weekday, another month, another half of the day."""
    return _replaced(text, rng, OTHER_DATES.__getitem__, OTHER_DATES)


def unit(text: str, rng: random.Random, _corpus: Corpus) -> str | None:
    """Another unit of the same measure."""
    return _replaced(text, rng, OTHER_UNITS.__getitem__, OTHER_UNITS)


def currency(text: str, rng: random.Random, _corpus: Corpus) -> str | None:
    """Another currency, by name or by sign."""
    return _replaced(text, rng, OTHER_MONEY.__getitem__, OTHER_MONEY)


def negation(text: str, rng: random.Random, _corpus: Corpus) -> str | None:
    """A negation dropped, or one put behind a verb."""
    found = [match.span() for match in _WORD.finditer(text) if match[0].lower() in NEGATIONS]
    if found:
        start, end = rng.choice(found)
        return text[:start] + text[end:].lstrip()
    places = [match.end() for match in _AUXILIARY.finditer(text)]
    if not places:
        return None
    at = rng.choice(places)
    return f"{text[:at]} not{text[at:]}"


def opposite(text: str, rng: random.Random, _corpus: Corpus) -> str | None:
    """A word turned into its opposite."""
    return _replaced(text, rng, lambda word: [OPPOSITE_OF[word]], OPPOSITE_OF)


def entity(text: str, rng: random.Random, corpus: Corpus) -> str | None:
    """Another name that the corpus knows, in the case that the text has."""
    named = {word for word in words(text) if word in corpus.names}
    return _replaced(text, rng, lambda word: [each for each in corpus.names if each not in (word, *named)], named)


def word(text: str, rng: random.Random, corpus: Corpus) -> str | None:
    """In a short text another word of the corpus in the place of one that says something."""
    said = set(words(text))
    free = {each for each in said if each in corpus.telling}
    if len(said) > SHORT or not corpus.telling:
        return None
    drawn = rng.sample(corpus.telling, min(20, len(corpus.telling)))
    return _replaced(
        text, rng, lambda mine: [each for each in drawn if each not in said and not variants(mine, each)], free
    )


HARD: Mapping[str, Hard] = {
    "number": number, "date": date, "unit": unit, "currency": currency, "negation": negation, "opposite": opposite,
    "entity": entity, "word": word,
}  # fmt: skip
"""Their copies must not be merged."""


def _replaced(
    text: str, rng: random.Random, others: Callable[[str], Sequence[str]], among: Mapping[str, object] | set[str]
) -> str | None:
    """One of the words `among` replaced by one of its `others`, written as it was; None where there is none."""
    found = [match for match in _WORD.finditer(text) if match[0].lower() in among]
    if not found:
        return None
    match = rng.choice(found)
    chosen = others(match[0].lower())
    if not chosen:
        return None
    other = rng.choice(chosen)
    if match[0].isupper() and len(match[0]) > 1:
        other = other.upper()
    elif match[0][0].isupper():
        other = other.capitalize()
    return text[: match.start()] + other + text[match.end() :]
