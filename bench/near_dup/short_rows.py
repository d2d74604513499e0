"""A corpus of short rows as support sees them: a few thousand requests, framed, with slips, names and numbers.

Every row is near many others, ever more as the corpus grows: the case in which comparing all that look alike costs the
square of it. One row in twenty is a copy of an earlier one with a slip in one word or a greeting before it.
"""

import random

from bench.near_dup.corpus import FUNCTION, Corpus, vocabulary_of

_BEFORE = ("", "", "", "hi ", "hello, ", "please ", "hey there, ", "i have a question: ", "can you tell me ")
_BEHIND = ("", "", "", " please", " thanks", " thank you", " for me", " now", " as soon as possible")
_COPIES = 20


def build(rows: int, *, seed: int = 5) -> Corpus:
    """Rows, each copy behind its original."""
    rng = random.Random(seed)
    words = vocabulary_of(rng, 3_600)
    content, names = words[:600], words[600:]
    requests = [_request(rng, content) for _ in range(4_000)]
    originals = rows - rows // _COPIES
    texts = [_framed(rng, rng.choice(requests), names) for _ in range(originals)]
    chosen = rng.sample(range(originals), rows - originals)
    texts += [_copy(rng, texts[at]) for at in chosen]
    return Corpus(texts, [*range(originals), *chosen], ["original"] * originals + ["copy"] * len(chosen))


def _request(rng: random.Random, content: list[str]) -> str:
    said = [rng.choice(FUNCTION[:60]) if rng.random() < 0.5 else content[int(600 ** rng.random())] for _ in range(9)]
    return " ".join(said)


def _framed(rng: random.Random, request: str, names: list[str]) -> str:
    if rng.random() < 0.4:
        request += f" {rng.choice(('for order', 'number', 'ticket', 'invoice'))} {rng.randrange(10**6)}"
    if rng.random() < 0.4:
        request += f" {rng.choice(('in', 'from', 'near'))} {rng.choice(names)}"
    if rng.random() < 0.3:
        request = _slip(rng, request)
    return rng.choice(_BEFORE) + request + rng.choice(_BEHIND)


def _copy(rng: random.Random, text: str) -> str:
    return _slip(rng, text) if rng.random() < 0.5 else f"hello {text}"


def _slip(rng: random.Random, text: str) -> str:
    """Two letters of one word swapped."""
    said = text.split(" ")
    free = [at for at, word in enumerate(said) if len(word) > 4 and word.isalpha()]
    if free:
        at = rng.choice(free)
        word, cut = said[at], rng.randrange(1, len(said[at]) - 2)
        said[at] = word[:cut] + word[cut + 1] + word[cut] + word[cut + 2 :]
    return " ".join(said)
