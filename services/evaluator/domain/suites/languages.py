"""The question in other languages and scripts. What the right answer quotes, and what holds digits, stays as it is."""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from services.evaluator.domain.suites.phrases import (
    CYRILLIC,
    FILLERS,
    FRAMES,
    GREEK,
    LANGUAGES,
    LATIN,
    LOOK_ALIKES,
    PHRASES,
    RIGHT_TO_LEFT,
)

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_PHRASE = re.compile(
    "|".join(rf"\b{re.escape(phrase)}\b" for phrase in sorted(PHRASES, key=len, reverse=True)), re.IGNORECASE
)
_CODE = re.compile(r"[\d@/\\_{}\[\]<>=#]")
_ISOLATE, _END_ISOLATE, _OVERRIDE, _END_OVERRIDE, _MARK = "\u2067", "\u2069", "\u202e", "\u202c", "\u200f"
_WIDE = 0xFEE0
_BETWEEN = 6
"""Words between two that slip in."""


@dataclass(frozen=True, slots=True)
class Material:
    """A question and what its right answer says, which may be quoted from it."""

    text: str
    answer: str = ""
    kept: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kept", frozenset(_WORD.findall(self.answer.casefold())))

    def keeps(self, words: str) -> bool:
        """Whether words must stay: codes, addresses, numbers, and what the right answer quotes."""
        return bool(_CODE.search(words)) or not self.kept.isdisjoint(_WORD.findall(words.casefold()))

    def each(self, change: Callable[[str], str]) -> str:
        """The question with its words changed, but for those that stay."""
        return re.sub(r"\S+", lambda found: found[0] if self.keeps(found[0]) else change(found[0]), self.text)


def language(given: Material, rng: random.Random) -> str:
    """As much of the question as the phrasebook knows, and sentences around it, in one other language."""
    tongue = rng.choice(LANGUAGES)
    before, after = FRAMES[tongue]
    return f"{before}\n{_told_in(given, [tongue], 1)}\n{after}"


def switching(given: Material, rng: random.Random) -> str:
    """Words of two other languages in between, as people write who speak several."""
    tongues = rng.sample(LANGUAGES, 2)
    words = _told_in(given, tongues, 2).split(" ")
    for place in range(rng.randrange(1, _BETWEEN), len(words) + 1, _BETWEEN + 1):
        words.insert(place, FILLERS[rng.choice(tongues)])
    return " ".join(words)


def transliteration(given: Material, rng: random.Random) -> str:
    """The same sounds in another alphabet: Latin in Cyrillic or Greek letters, those in Latin ones."""
    table = rng.choice((CYRILLIC, GREEK))
    return given.each(lambda word: _spelt(word, LATIN if word[:1].lower() in LATIN else table))


def script(given: Material, rng: random.Random) -> str:
    """The same letters as other signs: full width, look-alikes of another alphabet, bold as in mathematics."""
    change = rng.choice((_wide, _look_alike, _bold))
    return given.each(change)


def direction(given: Material, rng: random.Random) -> str:
    """Within a text that runs from right to left, with the marks that programs put there, once in a while misplaced."""
    before, after = FRAMES[rng.choice(RIGHT_TO_LEFT)]

    def marked(word: str) -> str:
        kind = rng.random()
        if kind < 0.1:
            return f"{_OVERRIDE}{word}{_END_OVERRIDE}"
        return f"{_MARK}{word}" if kind < 0.4 else word

    body = given.each(marked)
    return f"{before} {_ISOLATE}{body}{_END_ISOLATE if rng.random() < 0.7 else ''} {after}"


def filled(template: str, values: Mapping[str, str]) -> str:
    """A template of the task's owner with its {names} filled in; other braces are text."""
    return re.sub(r"\{([a-z_][a-z0-9_]*)\}", lambda found: values.get(found[1], found[0]), template)


def _told_in(given: Material, tongues: Sequence[str], every: int) -> str:
    """The question with every second, third ... phrase that the book knows said in one of the languages in turn."""
    seen = 0

    def said(found: re.Match[str]) -> str:
        nonlocal seen
        phrase = found[0]
        if given.keeps(phrase):
            return phrase
        seen += 1
        if (seen - 1) % every:
            return phrase
        told = PHRASES[phrase.lower()][tongues[(seen - 1) // every % len(tongues)]]
        return told[0].upper() + told[1:] if phrase[0].isupper() else told

    return _PHRASE.sub(said, given.text)


def _spelt(word: str, table: Mapping[str, str]) -> str:
    made, place = [], 0
    while place < len(word):
        size = 2 if word[place : place + 2].lower() in table else 1
        piece = word[place : place + size]
        sign = table.get(piece.lower(), piece)
        made.append(sign.capitalize() if piece[0].isupper() else sign)
        place += size
    return re.sub("\N{GREEK SMALL LETTER SIGMA}\\b", "ς", "".join(made))


def _wide(word: str) -> str:
    return "".join(chr(ord(sign) + _WIDE) if "!" <= sign <= "~" else sign for sign in word)


def _look_alike(word: str) -> str:
    return "".join(LOOK_ALIKES.get(sign, sign) for sign in word)


def _bold(word: str) -> str:
    def bold(sign: str) -> str:
        if "a" <= sign <= "z":
            return chr(0x1D41A + ord(sign) - ord("a"))
        return chr(0x1D400 + ord(sign) - ord("A")) if "A" <= sign <= "Z" else sign

    return "".join(map(bold, word))
