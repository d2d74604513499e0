"""A corpus of short rows with planted duplicates and hard negatives, the same for every engine.

Rows of some 70 words: function words of English, and content words of a Zipf vocabulary within topics, with numbers
and names. Of 106,000 rows 80,000 are originals, 20,000 near duplicates in five kinds, 2,000 exact ones, and 4,000 hard
negatives that differ from their original in one number alone. No edit touches what would change the meaning.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

_ENGLISH = (
    "the of and a to in is you that it he was for on are as with his they I at be this have from or had by hot "
    "but some what there we can out other were your when up use how said an each she which their time if will "
    "way about many then them would like so these some long make thing see him two has look more day could go "
    "come did my sound most number who over know water than call people may been now find work part take get "
    "place made live where much back little round man year came show good me give our name very through just "
    "form great think say help low line turn cause mean boy too same tell does set three want air well also play "
    "small put home read hand port large spell add even land here must big high such follow act why ask men "
    "change went light kind need house try us again"
)
FUNCTION = _ENGLISH.split()
_CRITICAL = frozenset(("two", "three", "all", "down", "end", "left", "under"))
"""What an edit leaves alone, since another word in its place says another thing."""
_SYLLABLES = [first + second for first in "bcdfghklmnprstvw" for second in ("a", "e", "i", "o", "u", "al", "en", "or")]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Rows; the original each row was made of (itself, for an original); rows that are hard negatives."""

    texts: list[str]
    origin: list[int]
    kind: list[str]


def build(originals: int = 80_000, *, seed: int = 7) -> Corpus:
    """The corpus, in a shuffled order where every copy stands after its original."""
    rng = random.Random(seed)
    everything = vocabulary_of(rng, 42_000)
    vocabulary, names = everything[2_000:], everything[:2_000]
    rows = [(rng.random() / 2, _text(rng, vocabulary, names), at, "original") for at in range(originals)]
    quarter = originals // 20
    chosen = rng.sample(range(originals), 5 * quarter + quarter // 2 + quarter)
    edits: list[tuple[str, Callable[[random.Random, list[str], list[str]], list[str]], int]] = [
        ("case and punctuation", _case, quarter),
        ("typos", _typos, quarter),
        ("reordered", _reordered, quarter),
        ("framed", _framed, quarter),
        ("15 % edited", _edited, quarter),
        ("exact", lambda _rng, words, _vocabulary: words, quarter // 2),
        ("hard negative", _renumbered, quarter),
    ]
    for name, edit, count in edits:
        for _ in range(count):
            at = chosen.pop()
            copy = " ".join(edit(rng, rows[at][1].split(" "), vocabulary))
            rows.append((0.5 + rng.random() / 2, copy, at, name))
    order = sorted(range(len(rows)), key=lambda row: rows[row][0])
    place = {row: at for at, row in enumerate(order)}
    return Corpus(
        [rows[row][1] for row in order], [place[rows[row][2]] for row in order], [rows[row][3] for row in order]
    )


def vocabulary_of(rng: random.Random, size: int) -> list[str]:
    """Invented words, each once."""
    found: dict[str, None] = {}
    while len(found) < size:
        found.setdefault("".join(rng.choices(_SYLLABLES, k=rng.choice((2, 2, 3, 3, 4)))))
    return list(found)


def _text(rng: random.Random, vocabulary: list[str], names: list[str]) -> str:
    topic = rng.randrange(400) * 97
    words: list[str] = []
    for _ in range(rng.randint(4, 8)):
        length = rng.randint(7, 16)
        common = rng.choices(FUNCTION, cum_weights=_WEIGHTS, k=length)
        said = [word if rng.random() < 0.5 else _content(rng, vocabulary, topic) for word in common]
        if rng.random() < 0.5:
            said[rng.randrange(1, length)] = str(rng.randint(2, 99_999))
        if rng.random() < 0.3:
            said[rng.randrange(1, length)] = rng.choice(names).title()
        said[0] = said[0].capitalize()
        words += [*said[:-1], said[-1] + "."]
    if not any(word.strip(".").isdigit() for word in words):
        words.insert(3, str(rng.randint(2, 99_999)))
    return " ".join(words)


def _content(rng: random.Random, vocabulary: list[str], topic: int) -> str:
    """A word of the topic or of the whole vocabulary, each with Zipf's law."""
    if rng.random() < 0.4:
        return vocabulary[topic + int(300 ** rng.random())]
    return vocabulary[int(len(vocabulary) ** rng.random())]


def _case(rng: random.Random, words: list[str], _: list[str]) -> list[str]:
    lowered = [word.lower() for word in words]
    return [f"{word}," if rng.random() < 0.1 and word[-1] != "." else word for word in lowered]


def _typos(rng: random.Random, words: list[str], _: list[str]) -> list[str]:
    said = list(words)
    for at in rng.sample(_free(words), min(4, len(_free(words)))):
        word, cut = said[at], rng.randrange(1, len(said[at]) - 1)
        said[at] = word[:cut] + word[cut + 1] + word[cut] + word[cut + 2 :]
    return said


def _reordered(rng: random.Random, words: list[str], _: list[str]) -> list[str]:
    said = list(words)
    for at in rng.sample(range(len(words) - 1), len(words) // 3):
        if _is_free(said[at]) and _is_free(said[at + 1]):
            said[at], said[at + 1] = said[at + 1], said[at]
    return said


def _framed(rng: random.Random, words: list[str], _: list[str]) -> list[str]:
    return [
        *rng.choice(("Hello team,", "Good morning,", "Hi there, quick question:")).split(),
        *words,
        "Thanks",
        "again",
    ]


def _edited(rng: random.Random, words: list[str], vocabulary: list[str]) -> list[str]:
    said = list(words)
    free = _free(words)
    for at in rng.sample(free, min(len(free), round(0.15 * len(words)))):
        said[at] = rng.choice(vocabulary)
    return said


def _renumbered(rng: random.Random, words: list[str], _: list[str]) -> list[str]:
    said = list(words)
    at = rng.choice([at for at, word in enumerate(words) if word.strip(".").isdigit()])
    other = said[at]
    while other == said[at]:
        other = str(rng.randint(2, 99_999)) + ("." if said[at].endswith(".") else "")
    said[at] = other
    return said


def _free(words: list[str]) -> list[int]:
    return [at for at, word in enumerate(words) if _is_free(word) and len(word) > 3]


def _is_free(word: str) -> bool:
    return word.isalpha() and word.islower() and word not in _CRITICAL


_WEIGHTS = list(accumulate(0.98**at for at in range(len(FUNCTION))))
