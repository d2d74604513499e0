"""One word in the place of another: what makes two texts say different things where no list knows the words.

`my card is gone` and `my car is gone` share as much as two copies do. In a short text a word that stands in one of two
alone, while the other has a word of its own, is critical: unless it is a filler, a form of the other's word or a slip
of the hand. In a long text one word of many seldom decides; there it is critical where it is all that differs, as what
fills the blank of a form, or where both words begin with a capital, as names do, and nouns where these are capitalised.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType

from services.curation.domain.guard_fillers import FILLERS
from services.curation.domain.text import cased_words, mark_of

SHORT = 24
"""Distinct words of a text in which each of them counts."""
FEW = 6
"""Most words that stand in one of two texts alone, fillers counted, where long ones may differ in one word (`a piano`,
`the lute`).
"""
SHOUTED = 0.5
"""A text with a greater share of capitalised words (a headline, shouting) tells nothing by its case."""
COMMON, SELDOM = 3, 20
"""A word that stands in so many texts, and once for so many times that the other does, is no slip of that one."""

_NONE: Mapping[str, int] = MappingProxyType({})
_JOINS = str.maketrans("", "", "'@._/:+-")
_SLIPPED = 4
"""Letters of a word that is known in spite of a slip; shorter ones are words of their own (`cat`, `car`)."""
_ENDINGS = frozenset(("", "s", "es", "ed", "ing"))
_LONG_ENDINGS = _ENDINGS | {"d", "y", "ly", "e", "en", "er", "em", "n", "r", "m", "t", "st", "te", "ten", "tes"}
"""Endings of longer words: what is an ending there makes another word of a short one (`card`, `plant`)."""
_PARTICLES = frozenset(("in", "on", "out", "off", "up", "down", "over", "back"))
"""Second halves of words that are written in one or in two: `login`, `log in`."""
_STEM, _LONG_STEM = 3, 5


def substituted(
    left: str, right: str, counts: Mapping[str, int] = _NONE
) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The words of two texts that stand for each other and say different things; None where there are none. `counts`
    says in how many texts of the corpus each word stands (`counts_of`): what is a word of its own is no slip.
    """
    mine, other = bag(left), bag(right)
    short = min(len({word for word, _ in side}) for side in (mine, other)) <= SHORT
    ours, theirs = (
        {each: mine[each] for each in mine if each not in other},
        {each: other[each] for each in other if each not in mine},
    )
    telling = [sum(tells(word) for word, _ in alone) for alone in (ours, theirs)]
    near = short or (len(ours) + len(theirs) <= FEW and telling == [1, 1])
    told = [
        tuple(
            word
            for (word, _), capital in alone.items()
            if (near or capital) and tells(word) and not any(variants(word, each, counts) for each, _ in beside)
        )
        for alone, beside in ((ours, theirs), (theirs, ours))
    ]
    return (told[0], told[1]) if told[0] and told[1] else None


def bag(text: str) -> dict[tuple[str, int], bool]:
    """The words of a text with how often each stood there before, and whether it begins with a capital; no word does
    in a text that shouts.
    """
    found: dict[tuple[str, int], bool] = {}
    seen: Counter[str] = Counter()
    cased = [word for word, _, _ in cased_words(text)]
    quiet = sum("A" <= word[0] <= "Z" for word in cased) <= SHOUTED * len(cased)
    for word in cased or [text.strip()]:
        plain = word.lower() if cased else word
        found[plain, seen[plain]] = quiet and "A" <= word[:1] <= "Z"
        seen[plain] += 1
    return found


def counts_of(texts: Iterable[Iterable[str]]) -> Counter[str]:
    """In how many texts, each given as its words, each word stands."""
    return Counter(word for text in texts for word in set(text))


def tells(word: str) -> bool:
    """Whether a word says something that the guard does not compare elsewhere."""
    return word not in FILLERS and not mark_of(word)


def variants(one: str, other: str, counts: Mapping[str, int] = _NONE) -> bool:
    """Whether two words are one, written or inflected in two ways, or one mistyped; both begin with the same letter."""
    return inflected(one, other) or (slipped(one, other) and not both_words(counts.get(one, 0), counts.get(other, 0)))


def both_words(one: int, other: int) -> bool:
    """Whether two words that stand in so many texts are words of their own and neither a slip of the other."""
    return min(one, other) >= max(COMMON, max(one, other) / SELDOM)


@lru_cache(65_536)
def inflected(one: str, other: str) -> bool:
    """Whether two words are forms of one: the same beginning and endings that change no meaning."""
    one, other = _plain(one), _plain(other)
    if one == other:
        return True
    shared = next((at for at, (mine, theirs) in enumerate(zip(one, other, strict=False)) if mine != theirs), None)
    if shared is None:
        shared = min(len(one), len(other))
    if shared < _STEM:
        return False
    rests = {one[shared:], other[shared:]}
    # Before an ending a letter is doubled (`shipped`), dropped (`moving`), or is there already (`moved`).
    doubled = {rest[1:] if rest[:1] == one[shared - 1] else rest for rest in rests}
    if (
        rests <= _ENDINGS
        or doubled <= _ENDINGS
        or rests == {"e", "ing"}
        or (rests == {"", "d"} and one[shared - 1] == "e")
    ):
        return True
    return (shared >= _LONG_STEM and rests <= _LONG_ENDINGS) or ("" in rests and bool(rests & _PARTICLES))


def _plain(word: str) -> str:
    word = word.translate(_JOINS)
    return f"{word[:-3]}y" if len(word) > _SLIPPED and word.endswith(("ies", "ied")) else word


@lru_cache(65_536)
def slipped(one: str, other: str) -> bool:
    """Whether one slip makes one word the other: two letters swapped, one missed, doubled or hit beside, after the
    first letter and before the last (a restricted distance of one; Damerau, 1964).
    """
    if len(one) > len(other):
        one, other = other, one
    if len(one) < _SLIPPED or len(other) - len(one) > 1 or one[0] != other[0] or one[-1] != other[-1]:
        return False
    at = next((place for place, (mine, theirs) in enumerate(zip(one, other, strict=False)) if mine != theirs), None)
    if at is None:
        return len(one) < len(other)
    if len(one) < len(other):
        return one[at:] == other[at + 1 :]
    swapped = one[at : at + 2] == other[at : at + 2][::-1] and one[at + 2 :] == other[at + 2 :]
    return swapped or one[at + 1 :] == other[at + 1 :]
