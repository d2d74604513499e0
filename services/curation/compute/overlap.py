"""Every pair of texts that share enough words: exhaustive, for what must not be missed.

Buckets of hashes miss a pair now and then. Here the words of each text stand in one order, rare ones first: of two sets
whose Jaccard similarity reaches the threshold, the first words of the smaller hold one of the first words of the larger
(prefix filter: Chaudhuri, Ganti, Kaushik, 2006; Bayardo, Ma, Srikant, 2007; how many: Xiao et al., 2008). Only such
pairs are compared, and all of them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from services.curation.compute.decontaminate_lexical import Scored
from services.curation.compute.near_pairs import word_sets
from services.curation.compute.near_words import I64

METHOD = "every pair that can reach it, by its words"
_ROWS, _PAIRS = 256, 1 << 16
_ROUNDING = 1e-9


class Overlap:
    """Texts by their distinct words; `masked` as `domain.text.masked`."""

    def __init__(self, texts: Sequence[str], threshold: float, *, masked: bool = False) -> None:
        """Read the texts for pairs at or above the threshold."""
        sets = word_sets(texts, np.arange(len(texts)), masked=masked)
        self._threshold = threshold
        self._sizes = np.diff(sets.offsets)
        _, word, counts = np.unique(sets.words, return_inverse=True, return_counts=True)
        rank: I64 = np.empty(len(counts), np.int64)
        rank[np.argsort(counts, kind="stable")] = np.arange(len(counts))
        owner: I64 = np.repeat(np.arange(len(texts)), self._sizes)
        words = rank[word][np.lexsort((rank[word], owner))]
        place = np.arange(len(words)) - np.repeat(sets.offsets[:-1], self._sizes)

        def first(share: float) -> sparse.csr_matrix:
            kept = place <= (self._sizes - np.ceil(share * self._sizes - _ROUNDING))[owner]
            ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(owner[kept], minlength=len(texts)))])
            ones: NDArray[np.int32] = np.ones(int(ends[-1]), np.int32)
            return sparse.csr_matrix((ones, words[kept], ends), shape=(len(texts), max(1, len(counts))))

        self._whole = first(0.0)
        self._of_larger, self._of_smaller = first(threshold), first(2 * threshold / (1 + threshold))

    def between(self, rows: I64, held: I64) -> Scored:
        """Pairs of a text of `rows` and one of `held` (numbers of texts), by their places there, with similarity."""
        empty: I64 = np.empty(0, np.int64)
        found = [(empty, empty, np.empty(0))]
        larger, smaller = self._of_larger[held].T.tocsr(), self._of_smaller[held].T.tocsr()
        for start in range(0, len(rows), _ROWS):
            block = rows[start : start + _ROWS]
            likely = (self._of_larger[block] @ smaller + self._of_smaller[block] @ larger).tocoo()
            left, right = likely.row.astype(np.int64), likely.col.astype(np.int64)
            for at in range(0, len(left), _PAIRS):
                ours, theirs = left[at : at + _PAIRS], right[at : at + _PAIRS]
                similarity = self._similarity(block[ours], held[theirs])
                good = similarity >= self._threshold - _ROUNDING
                found.append((ours[good] + start, theirs[good], similarity[good]))
        return Scored(*(np.concatenate(column) for column in zip(*found, strict=True)))

    def _similarity(self, left: I64, right: I64) -> NDArray[np.float64]:
        less, more = self._sizes[left], self._sizes[right]
        able = np.minimum(less, more) >= self._threshold * np.maximum(less, more) - _ROUNDING
        shared: I64 = np.zeros(len(left), np.int64)
        together = self._whole[left[able]].multiply(self._whole[right[able]])
        shared[able] = np.asarray(together.sum(axis=1)).ravel()
        similarity: NDArray[np.float64] = shared / (less + more - shared)
        return similarity
