"""Normal forms of text: what is stored, what is compared, and what must differ for two texts to be told apart."""

import re
import unicodedata
from functools import lru_cache

_VOCABULARY = 65_536

# Tabs and newlines are text; other controls, byte-order marks and zero-width characters never are.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\ufff9-\ufffb]"
)
_BLANKS = re.compile(r"[^\S\n]+")
_LINES = re.compile(r"\s*\n\s*\n\s*\n*")
_WORD = re.compile("<[a-z]+_\\d+>|[^\\W_]+(?:['\u2019@._/:+-][^\\W_]+)*")
_NEGATIONS = frozenset(
    (
        "not", "no", "never", "none", "nobody", "nothing", "nowhere", "neither", "nor", "cannot", "cant", "wont",
        "dont", "doesnt", "didnt", "isnt", "arent", "wasnt", "werent", "havent", "hasnt", "hadnt", "shouldnt",
        "wouldnt", "couldnt", "without", "unable", "hardly",
    )
)  # fmt: skip
_QUANTITIES = frozenset(
    (
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
        "twenty", "thirty", "forty", "fifty", "hundred", "thousand", "first", "second", "third", "half", "double",
        "twice", "everyone", "everybody", "all", "every", "only",
    )
)  # fmt: skip
# One word of each pair of opposites is enough: where it stands on one side only, the sides differ.
_OPPOSITES = frozenset(
    (
        "off", "disable", "disabled", "disabling", "deactivate", "deactivated", "before", "after", "decrease",
        "decreased", "down", "remove", "removed", "close", "closed", "block", "blocked", "stop", "stopped", "manual",
        "less", "below", "failed", "last",
    )
)  # fmt: skip


def normalise(text: str) -> str:
    """The text as it is stored: NFC, nothing invisible, single blanks, no blank edges; line breaks stay."""
    clean = _INVISIBLE.sub("", unicodedata.normalize("NFC", text))
    clean = _LINES.sub("\n\n", _BLANKS.sub(" ", clean.replace("\r\n", "\n").replace("\r", "\n")))
    return "\n".join(line.strip() for line in clean.split("\n")).strip()


def words(text: str) -> list[str]:
    """Words in order, case-folded, compatibility forms merged (NFKC), punctuation dropped; `o'clock` is one word.

    A text without any word (signs only) is one word itself.
    """
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return _WORD.findall(plain.casefold()) or [text.strip()]


def key_of(text: str) -> str:
    """Equal keys are the same text to a reader."""
    return " ".join(words(text))


class Reading:
    """Words and key of each text, worked out once; rows are read several times in one build."""

    def __init__(self) -> None:
        self._read: dict[str, list[str]] = {}

    def words(self, text: str) -> list[str]:
        """As `words`."""
        found = self._read.get(text)
        if found is None:
            found = self._read[text] = words(text)
        return found

    def key(self, text: str) -> str:
        """As `key_of`."""
        return " ".join(self.words(text))

    def form(self, text: str) -> frozenset[str]:
        """As `masked` of its words."""
        return masked(self.words(text))


def masked(tokens: list[str]) -> frozenset[str]:
    """The set of words with every number, identifier and address replaced by its kind: the form of a text."""
    return frozenset(map(_mask, tokens))


def critical(tokens: list[str]) -> tuple[str, ...]:
    """The words that carry a critical difference, in order: numbers, identifiers, negations and opposites.

    Texts that differ here say different things, however similar they look (near-duplicate detection by word sets
    alone merges all of these).
    """
    return tuple(word for word in tokens if _is_critical(word))


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    """Jaccard similarity of two sets, in [0, 1]; two empty sets are the same."""
    if not left and not right:
        return 1.0
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared)


@lru_cache(_VOCABULARY)
def _mask(word: str) -> str:
    return "@" if "@" in word else "#" if any(map(str.isdigit, word)) else word


@lru_cache(_VOCABULARY)
def _is_critical(word: str) -> bool:
    plain = word.replace("'", "").replace("\u2019", "")
    return (
        any(map(str.isdigit, word))
        or "@" in word
        or plain in _NEGATIONS
        or (plain.endswith("nt") and plain != word)
        or plain in _QUANTITIES
        or plain in _OPPOSITES
    )
