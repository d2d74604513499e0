"""Perturbations planted to measure what a step finds: each keeps what a text says; those of `calibrate_hard` do not."""

import random
import re
from collections.abc import Callable, Mapping, Sequence

from services.curation.domain.guard import known_names
from services.curation.domain.guard_substitutes import SHORT
from services.curation.domain.text import has_digit, mark_of, words

_TOKEN = re.compile(r"\S+")
_CORE = re.compile(r"^\W*([^\W\d_]+)\W*$")
_KEYS = "qwertyuiopasdfghjklzxcvbnm"

Plant = Callable[[str, random.Random, Sequence[str]], str | None]


def typo(text: str, rng: random.Random, _vocabulary: Sequence[str]) -> str | None:
    """Two letters swapped, one doubled or one hit beside, in one word of fifteen."""
    return _edited(text, rng, 1 / 15, lambda word: _mistyped(word, rng))


def case(text: str, rng: random.Random, _vocabulary: Sequence[str]) -> str | None:
    """Everything in lower case, or shouted, with other punctuation at the end."""
    changed = (text.lower() if rng.random() < 0.7 else text.upper()).rstrip(".!?")
    return changed + rng.choice(("", "!", " .", "..."))


def reorder(text: str, rng: random.Random, _vocabulary: Sequence[str]) -> str | None:
    """Neighbouring words swapped, in one place of eight; critical words keep their place."""
    parts = text.split()
    free = [at for at in range(len(parts) - 1) if is_free(parts[at]) and is_free(parts[at + 1])]
    if not free:
        return None
    for at in rng.sample(free, max(1, min(len(free), len(parts) // 8))):
        parts[at], parts[at + 1] = parts[at + 1], parts[at]
    return " ".join(parts)


def synonym(text: str, rng: random.Random, vocabulary: Sequence[str]) -> str | None:
    """Another word of the corpus in place of one in twelve, in texts so long that none of them decides: what a synonym
    is to whoever compares words.
    """
    return None if len(set(words(text))) <= SHORT else _edited(text, rng, 1 / 12, lambda _word: rng.choice(vocabulary))


def framed(text: str, rng: random.Random, _vocabulary: Sequence[str]) -> str | None:
    """A greeting before, thanks behind."""
    return rng.choice(("Hi, ", "Hello, ", "Please: ")) + text + rng.choice((" Thanks", " Thank you", " please"))


def reworded(text: str, rng: random.Random, vocabulary: Sequence[str]) -> str:
    """The text as somebody else would ask it: a third of the words dropped or replaced, clauses moved, numbers kept."""
    sentences = re.split(r"(?<=[.!?])\s+", text)
    if len(sentences) > 2 and rng.random() < 0.5:
        at = rng.randrange(len(sentences) - 1)
        sentences[at], sentences[at + 1] = sentences[at + 1], sentences[at]
    said = []
    for word in " ".join(sentences).split():
        draw = rng.random()
        if has_digit(word) or not is_free(word) or draw >= 1 / 3:
            said.append(word)
        elif draw >= 1 / 6:
            said.append(rng.choice(vocabulary))
    return " ".join(said) or text


def plain_words(texts: Sequence[str]) -> list[str]:
    """Words of the texts, in order, that change nothing critical where they stand in for another."""
    names = known_names(texts)
    found = {word for text in texts for word in words(text) if word.isalpha() and len(word) > 2}
    return sorted(word for word in found if not mark_of(word) and word not in names) or ["word"]


SAME: Mapping[str, Plant] = {"typo": typo, "case": case, "reorder": reorder, "synonym": synonym, "framed": framed}
"""Perturbations that keep what a text says: their copies must be merged."""


def _edited(text: str, rng: random.Random, share: float, edit: Callable[[str], str]) -> str | None:
    spans = [match.span() for match in _TOKEN.finditer(text) if is_free(match[0]) and len(match[0]) > 3]
    if not spans:
        return None
    count = max(1, min(len(spans), round(share * len(text.split()))))
    for start, end in sorted(rng.sample(spans, count), reverse=True):
        text = text[:start] + edit(text[start:end]) + text[end:]
    return text


def _mistyped(word: str, rng: random.Random) -> str:
    at = rng.randrange(1, len(word) - 1)
    kind = rng.randrange(3)
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return word[:at] + (word[at] * 2 if kind == 1 else rng.choice(_KEYS)) + word[at + 1 :]


def is_free(token: str) -> bool:
    """Whether a word may change without changing what is said: it carries no mark and is no name."""
    core = _CORE.match(token)
    return core is not None and core[1].islower() and not mark_of(core[1])
