"""Normal forms of text: what is stored, what is compared, and what must differ for two texts to be told apart."""

import re
import unicodedata

# Tabs and newlines are text; other controls, byte-order marks and zero-width characters never are.
_INVISIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\ufff9-\ufffb]")
_BLANKS = re.compile(r"[^\S\n]+")
_LINES = re.compile(r"\s*\n\s*\n\s*\n*")
_WORD = re.compile(r"<[A-Z]+_\d+>|[^\W_]+(?:['’@._/:+-][^\W_]+)*", re.UNICODE)
_NEGATIONS = frozenset(
    "not no never none nobody nothing nowhere neither nor cannot cant wont dont doesnt didnt isnt arent wasnt werent "
    "havent hasnt hadnt shouldnt wouldnt couldnt without unable hardly".split()
)
_NUMBER_WORDS = frozenset(
    "zero one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred thousand "
    "first second third half double twice everyone everybody all every only".split()
)
_POLAR = frozenset(
    "on off enable disable enabled disabled activate deactivate before after increase decrease up down add remove "
    "open close allow block allowed blocked start stop with manual automatic more less above below in out".split()
)


def normalise(text: str) -> str:
    """The text as it is stored: NFC, nothing invisible, single blanks, no blank edges; line breaks stay."""
    clean = _INVISIBLE.sub("", unicodedata.normalize("NFC", text))
    clean = _LINES.sub("\n\n", _BLANKS.sub(" ", clean.replace("\r\n", "\n").replace("\r", "\n")))
    return "\n".join(line.strip() for line in clean.split("\n")).strip()


def words(text: str) -> list[str]:
    """Words in order, case-folded, compatibility forms merged (NFKC), punctuation dropped; `o'clock` is one word."""
    return [word.casefold() for word in _WORD.findall(unicodedata.normalize("NFKC", text))]


def key_of(text: str) -> str:
    """Equal keys are the same text to a reader."""
    return " ".join(words(text))


def masked(tokens: list[str]) -> frozenset[str]:
    """The set of words with every number, identifier and address replaced by its kind: the form of a text."""
    return frozenset("@" if "@" in word else "#" if any(map(str.isdigit, word)) else word for word in tokens)


def critical(tokens: list[str]) -> tuple[str, ...]:
    """The words that carry a critical difference, sorted: numbers, identifiers, negations and opposites.

    Texts that differ here say different things, however similar they look (near-duplicate detection by word sets
    alone merges all of these).
    """
    return tuple(sorted(word for word in tokens if _is_critical(word)))


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    """Jaccard similarity of two sets, in [0, 1]; two empty sets are the same."""
    if not left and not right:
        return 1.0
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared)


def _is_critical(word: str) -> bool:
    plain = word.replace("'", "").replace("’", "")
    return (
        any(map(str.isdigit, word))
        or "@" in word
        or plain in _NEGATIONS
        or plain.endswith("nt") and ("'" in word or "’" in word)
        or plain in _NUMBER_WORDS
        or plain in _POLAR
    )
