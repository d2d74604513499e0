"""MinHash sketches of texts, banded for locality-sensitive hashing, on columns.

MinHash: Broder, 1997; banding: Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4. A sketch sees the
words that tell short texts apart: words of one to three letters stand in all of them, and drawn into the sketch they
propose pairs that verification only throws away, at a cost that grows with the square of the corpus. Which words those
are depends on the text alone, so that later texts never change what an earlier one is like.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from services.curation.compute.near_marks import marks
from services.curation.compute.near_words import I64, ODD, U64, Tokens, mix, ordered, spans, tokenise
from services.curation.domain.guard import MARKED

PERMUTATIONS = 126
ALGORITHM = "minhash/1"
_SHORT = 3
_FEWEST = 6
"""A text with fewer telling words is sketched by all its words."""
_SLAB = 1 << 16
_MISSED = 0.01
"""Most of the pairs just at the threshold that are not proposed."""


@dataclass(frozen=True, slots=True)
class Sketches:
    """Of n texts: `keys` [bands, n] (equal keys propose a pair), `marks` [kinds, n] of the guard, and `same` [n], equal
    for texts with the same words in the same order.
    """

    keys: U64
    marks: U64
    same: U64


def banding(threshold: float) -> tuple[int, int]:
    """Bands and rows: the longest bands of which 99 % of the pairs just at the threshold share two."""
    for rows in range(14, 1, -1):
        bands = PERMUTATIONS // rows
        shared = threshold**rows
        if (1 - shared) ** bands + bands * shared * (1 - shared) ** (bands - 1) <= _MISSED:
            return bands, rows
    return PERMUTATIONS, 1


def sketch(texts: Sequence[str], threshold: float, *, masked: bool = False, threads: int = 2) -> Sketches:
    """Sketch the texts for pairs at or above the threshold."""
    bands, rows = banding(threshold)
    chunks = [texts[start:stop] for start, stop in spans(texts)]

    def one(chunk: Sequence[str]) -> tuple[U64, U64, U64]:
        tokens = tokenise(chunk, masked=masked)
        keys = _banded(minhash(tokens, bands * rows), bands, rows)
        return keys, marks(tokens), ordered(tokens.hashes, tokens.rows, len(chunk))

    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(one, chunks))
    if not parts:
        return Sketches(np.empty((bands, 0), np.uint64), np.empty((len(MARKED), 0), np.uint64), np.empty(0, np.uint64))
    keys, marked, same = zip(*parts, strict=True)
    return Sketches(np.concatenate(keys, axis=1), np.concatenate(marked, axis=1), np.concatenate(same))


def minhash(tokens: Tokens, permutations: int) -> NDArray[np.uint16]:
    """[permutations, n] least values of the texts' telling words under random linear maps modulo 2**16.

    Sixteen bits are enough for short texts and take half the time of thirty-two.
    """
    telling, first = _telling(tokens)
    counts = np.diff(first)
    values = (telling >> np.uint64(36)).astype(np.uint16)
    out: NDArray[np.uint16] = np.empty((permutations, len(counts)), np.uint16)
    factors, shifts = _maps()
    order = np.argsort(counts, kind="stable")
    at = 0
    while at < len(order):
        # Texts of like length side by side; a shorter one is padded with its last word, which changes no minimum.
        size = max(1, min(len(order) - at, _SLAB // max(1, int(counts[order[at]]))))
        rows = order[at : at + size]
        width = int(counts[rows[-1]])
        if width * size > 2 * _SLAB:
            size = max(1, size // 2)
            rows = order[at : at + size]
            width = int(counts[rows[-1]])
        places = first[rows] + np.minimum(np.arange(width)[:, None], counts[rows] - 1)
        block = values[places]
        scratch = np.empty_like(block)
        least: NDArray[np.uint16] = np.empty((permutations, size), np.uint16)
        for each in range(permutations):
            np.multiply(block, factors[each], out=scratch)
            np.add(scratch, shifts[each], out=scratch)
            np.minimum.reduce(scratch, axis=0, out=least[each])
        out[:, rows] = least
        at += size
    return out


def _telling(tokens: Tokens) -> tuple[U64, I64]:
    """The words that enter the sketch, with their offsets."""
    kept = tokens.lengths > _SHORT
    kept[tokens.digits] = True
    totals = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])
    few = (totals[tokens.first[1:]] - totals[tokens.first[:-1]]) < _FEWEST
    if few.any():
        kept |= np.repeat(few, np.diff(tokens.first))
        totals = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])
    return tokens.hashes[kept], totals[tokens.first]


def _banded(signature: NDArray[np.uint16], bands: int, rows: int) -> U64:
    keys = np.empty((bands, signature.shape[1]), np.uint64)
    for band in range(bands):
        key = np.full(signature.shape[1], band + 1, np.uint64)
        for row in range(rows):
            key = key * ODD + signature[band * rows + row]
        keys[band] = mix(key)
    return keys


@cache
def _maps() -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    seeds = mix(np.arange(1, 2 * PERMUTATIONS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    values = (seeds >> np.uint64(48)).astype(np.uint16)
    return values[:PERMUTATIONS] | np.uint16(1), values[PERMUTATIONS:]
