"""Normal forms of text: what is stored, what is compared, and the words both are read as."""

import json
import re
import unicodedata
from functools import lru_cache

from services.curation.domain.guard_words import MARKS
from services.curation.domain.signs import PARTS, fold

_VOCABULARY = 65_536

# Tabs and newlines are text; other controls, byte-order marks and zero-width characters never are.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\ufff9-\ufffb]"
)
_BLANKS = re.compile(r"[^\S\n]+")
_FOREIGN_BLANK = re.compile(r"[^\S\n\t ]")
_EMPTY_LINES = re.compile(r"\n{4,}")
# Currency, percent and degree belong to the number beside them, as a minus does that opens one.
_PART = f"(?:[^\\W_]|[{PARTS}])"
_WORD = re.compile(f"(?:(?<![\\w{PARTS}'@._/:+-])-(?=[0-9]))?{_PART}+(?:['@._/:+-]{_PART}+)*")
# Signs that are spelt in several ways: typographic quotes and dashes, and wide forms of ASCII.
_SPELT = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u2032", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"')
    | dict.fromkeys("\u2010\u2011\u2013\u2014\u2212", "-")
    | {"\u3002": ".", "\u3001": ",", "\u2026": "..."}
    | {chr(wide): chr(wide - 0xFEE0) for wide in range(0xFF01, 0xFF5F)}
)
# What only opens or ends a sentence.
_OPENING, _ENDING = " \"'\u00bf\u00a1", " .,;:?!\"'"
_OPERATOR = r"[+*/<>=^&|~\u00d7\u00f7\u00b1\u2248\u2260\u2264\u2265]{1,3}"
_OPERATORS = re.compile(
    rf"(?<=[^\W\d_])(?:\+{{1,2}}|#)(?!\w)|(?<=\w)(?:{_OPERATOR}|\s{_OPERATOR}\s)(?=\w)|(?<=\d) - (?=\d)"
)


def normalise(text: str) -> str:
    """The text as it is stored: NFC, nothing invisible, no needless blanks; line breaks stay.

    What stands in several lines may be code or a table: its indentation and columns stay. So do blanks in JSON, whose
    texts may be either.
    """
    clean = _INVISIBLE.sub("", unicodedata.normalize("NFC", text)).replace("\r\n", "\n").replace("\r", "\n")
    lines = [_FOREIGN_BLANK.sub(" ", line).rstrip() for line in clean.split("\n")]
    whole = _EMPTY_LINES.sub("\n\n\n", "\n".join(lines)).strip("\n")
    if "\n" in whole:
        return whole
    spaced = _BLANKS.sub(" ", whole).strip()
    return whole.strip() if spaced != whole and _is_json(whole) else spaced


def _is_json(text: str) -> bool:
    if text.lstrip()[:1] not in ("{", "["):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def words(text: str) -> list[str]:
    """Words in order, case-folded, punctuation dropped; `o'clock`, `$5`, `10:30` and `a@b.org` are one word each.

    A text without any word (signs only) is one word itself.
    """
    return _WORD.findall(fold(text).lower()) or [text.strip()]


def cased_words(text: str) -> list[tuple[str, int, int]]:
    """Words as `fold` leaves them, with start and end in it."""
    return [(match[0], *match.span()) for match in _WORD.finditer(fold(text))]


def key_of(text: str) -> str:
    """Equal keys are the same words to a reader: what no two splits may share."""
    return " ".join(words(text))


def spelling_of(text: str) -> str:
    """Equal spellings ask the same, to a reader: but for case, blanks and what opens or ends a sentence every sign
    counts, since `C++` is not `C#`, nor `7 + 8` the question `7 * 8`.
    """
    plain = " ".join(normalise(text).translate(_SPELT).casefold().split())
    bare = plain.rstrip(_ENDING)
    if "0" <= bare[-1:] <= "9":
        # After a number a quote is a measure, and `!` a factorial.
        rest = plain[len(bare) :]
        bare += rest[: len(rest) - len(rest.lstrip("!\"'"))]
    return bare.lstrip(_OPENING) or plain


def operators(text: str) -> str:
    """The signs that stand between or behind words as words do (`a < b`, `C#`), in order."""
    return " ".join(sign.strip() for sign in _OPERATORS.findall(text))


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


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    """Jaccard similarity of two sets, in [0, 1]; two empty sets are the same."""
    if not left and not right:
        return 1.0
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared)


def has_digit(word: str) -> bool:
    """Whether an ASCII digit stands in the word (`fold` makes the others ASCII)."""
    return any("0" <= each <= "9" for each in word)


@lru_cache(_VOCABULARY)
def mark_of(word: str) -> str:
    """The mark of a critical word: numbers and addresses are their own, the rest what they stand for (`1` for `one`,
    `eur` for `euros`, `not` for every negation); empty for a word that is not critical.
    """
    if has_digit(word) or "@" in word:
        return word
    return MARKS.get(word, "")


@lru_cache(_VOCABULARY)
def _mask(word: str) -> str:
    return "@" if "@" in word else "#" if has_digit(word) else word
