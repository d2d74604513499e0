"""Every pair of texts that share enough words: exhaustive, for what must not be missed.

Buckets of hashes miss a pair now and then. Here the words of each text stand in one order, rare ones first: of two sets
whose Jaccard similarity reaches the threshold, the first words of the smaller hold one of the first words of the larger
(prefix filter: Chaudhuri, Ganti, Kaushik, 2006; Bayardo, Ma, Srikant, 2007; how many: Xiao et al., 2008). Only such
pairs are compared, and all of them. Texts of one template share first words with most others and the filter spares
nothing: what two of those have in common is counted for all pairs at once, common words by a dense product.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from services.curation.compute.near_pairs import word_sets
from services.curation.compute.near_words import I64, ordered

METHOD = "every pair that can reach it, by its words"
_ROWS, _HELD, _PAIRS, _WORDS = 1024, 4096, 1 << 16, 1 << 22
"""Of a block: texts of the one side and of the other; pairs compared at once, and words of either side of these."""
_COMMON = 128
"""Words, the most common ones, that a dense product counts."""
_SPARED = 16
"""Counting a pair is so many times cheaper than comparing it: pairs are counted where the filter spares too few."""
_ROUNDING = 1e-9

Floats: TypeAlias = NDArray[np.float64]
I32: TypeAlias = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class _Side:
    """Distinct word sets of one side by size, ascending: which they are, how large, and how many texts have each.

    `first` is the place of the first such text.
    """

    sets: I64
    sizes: I64
    first: I64
    texts: I64

    def within(self, least: float, most: float) -> slice:
        """Those of such sizes."""
        return slice(int(np.searchsorted(self.sizes, least)), int(np.searchsorted(self.sizes, most, "right")))


class Overlap:
    """Texts by their distinct words, equal sets read once; `masked` as `domain.text.masked`."""

    def __init__(self, texts: Sequence[str], threshold: float, *, masked: bool = False) -> None:
        """Read the texts for pairs at or above the threshold."""
        read = word_sets(texts, np.arange(len(texts)), masked=masked)
        sizes = np.diff(read.offsets)
        keys = ordered(read.words, np.repeat(np.arange(len(texts)), sizes), len(texts))
        _, first, self._set_of = np.unique(keys, return_index=True, return_inverse=True)
        self._threshold, self._sizes = threshold, sizes[first]
        ends = np.cumsum(self._sizes)
        # Narrow integers, and nothing kept that was only on the way: there is one of each for every word of the data.
        within = _narrow(np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - self._sizes, self._sizes))
        held = read.words[np.repeat(read.offsets[:-1][first], self._sizes) + within]
        del read, keys
        _, word, counts = np.unique(held, return_inverse=True, return_counts=True)
        del held
        rank: I32 = np.empty(len(counts), np.int32)
        rank[np.argsort(counts, kind="stable")] = np.arange(len(counts))
        owner: I32 = np.repeat(np.arange(len(first), dtype=np.int32), self._sizes)
        words = rank[word]
        del word
        words = words[np.lexsort((words, owner))]

        def matrix(kept: NDArray[np.bool_]) -> sparse.csr_matrix:
            borders = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(owner[kept], minlength=len(first)))])
            ones: NDArray[np.float32] = np.ones(int(borders[-1]), np.float32)
            return sparse.csr_matrix((ones, words[kept], _narrow(borders)), shape=(len(first), max(1, len(counts))))

        def prefix(share: float) -> sparse.csr_matrix:
            return matrix(within <= (self._sizes - np.ceil(share * self._sizes - _ROUNDING))[owner])

        self._of_larger, self._of_smaller = prefix(threshold), prefix(2 * threshold / (1 + threshold))
        self._whole = matrix(np.ones(len(words), np.bool_))
        self._rare = matrix(words < len(counts) - _COMMON)
        self._common = self._whole[:, -_COMMON:]

    def best(self, rows: I64, held: I64) -> dict[int, tuple[int, float]]:
        """For each text of `rows` with one of `held` at the threshold (numbers of texts), the most similar and how
        similar that is; both by their places, of equal ones the first.
        """
        ours, theirs = self._side(rows), self._side(held)
        found: dict[int, tuple[int, float]] = {}
        for left, right, similarity in self._pairs(ours, theirs):
            # Sets of our side ascend: of each the most similar ones, then the first of these.
            fresh = np.flatnonzero(np.diff(left, prepend=-1))
            most = np.maximum.reduceat(similarity, fresh) if len(fresh) else similarity
            top = np.flatnonzero(similarity == np.repeat(most, np.diff(fresh, append=len(left))))
            order = top[np.lexsort((theirs.first[right[top]], left[top]))]
            fresh = order[np.flatnonzero(np.diff(left[order], prepend=-1))]
            for row, other, score in zip(left[fresh], theirs.first[right[fresh]], similarity[fresh], strict=True):
                known = found.get(int(row))
                if known is None or (-score, other) < (-known[1], known[0]):
                    found[int(row)] = int(other), float(score)
        place = np.full(len(self._sizes), -1)
        place[ours.sets] = np.arange(len(ours.sets))
        of_row = place[self._set_of[rows]]
        return {at: found[mine] for at, mine in enumerate(of_row.tolist()) if mine in found}

    def count(self, left: I64, right: I64) -> int:
        """How many pairs of a text of `left` and one of `right` (numbers of texts) reach the threshold."""
        ours, theirs = self._side(left), self._side(right)
        return sum(int((ours.texts[one] * theirs.texts[other]).sum()) for one, other, _ in self._pairs(ours, theirs))

    def _side(self, texts: I64) -> _Side:
        sets, first, counts = np.unique(self._set_of[texts], return_index=True, return_counts=True)
        order = np.argsort(self._sizes[sets], kind="stable")
        return _Side(sets[order], self._sizes[sets][order], first[order], counts[order])

    def _pairs(self, ours: _Side, theirs: _Side) -> Iterator[tuple[I64, I64, Floats]]:
        """Places in the two sides of sets that reach the threshold, with their similarity; ours ascend."""
        for start in range(0, len(ours.sets), _ROWS):
            block = np.arange(start, min(start + _ROWS, len(ours.sets)))
            small, large = ours.sizes[block[0]], ours.sizes[block[-1]]
            near = theirs.within(self._threshold * small - _ROUNDING, large / self._threshold + _ROUNDING)
            for at in range(near.start, near.stop, _HELD):
                tile = np.arange(at, min(at + _HELD, near.stop))
                for left, right, shared in self._shared(ours.sets[block], theirs.sets[tile]):
                    more = ours.sizes[block[left]] + theirs.sizes[tile[right]]
                    similarity = shared / (more - shared)
                    good = similarity >= self._threshold - _ROUNDING
                    yield block[left[good]], tile[right[good]], similarity[good]

    def _shared(self, block: I64, tile: I64) -> Iterator[tuple[I64, I64, Floats]]:
        """Places of sets that may reach the threshold, and how many words they share."""
        larger, smaller = self._of_larger[block], self._of_smaller[block]
        met = _products(larger, self._of_smaller[tile]) + _products(smaller, self._of_larger[tile])
        if met * _SPARED > len(block) * len(tile):
            yield self._counted(block, tile)
        elif met:
            likely = (larger @ self._of_smaller[tile].T + smaller @ self._of_larger[tile].T).tocsr().tocoo()
            left, right = likely.row.astype(np.int64), likely.col.astype(np.int64)
            longest = int(max(self._sizes[block].max(), self._sizes[tile].max()))
            step = max(1, min(_PAIRS, _WORDS // max(1, longest)))
            for at in range(0, len(left), step):
                one, other = left[at : at + step], right[at : at + step]
                together = self._whole[block[one]].multiply(self._whole[tile[other]])
                yield one, other, np.asarray(together.sum(axis=1), np.float64).ravel()

    def _counted(self, block: I64, tile: I64) -> tuple[I64, I64, Floats]:
        shared = self._common[block].toarray() @ self._common[tile].toarray().T
        rare = (self._rare[block] @ self._rare[tile].T).tocoo()
        shared[rare.row, rare.col] += rare.data
        # Half a word of slack: whoever asks compares without the rounding of single precision.
        sizes = self._sizes[block][:, None] + self._sizes[tile][None, :]
        least = (sizes * (self._threshold / (1 + self._threshold)) - 0.5).astype(np.float32)
        left, right = np.nonzero(shared >= least)
        return left, right, shared[left, right].astype(np.float64)


def _narrow(places: I64) -> I32:
    return places.astype(np.int32)


def _products(left: sparse.csr_matrix, right: sparse.csr_matrix) -> int:
    """How many products of two ones a product of the two holds: no fewer than it has pairs."""
    count = left.shape[1]
    return int(np.bincount(left.indices, minlength=count) @ np.bincount(right.indices, minlength=count))
