"""Weighted lexical overlap of rows with held-out texts: cosine of rare words, tempered by the numbers they share.

A rewording keeps the rare words and above all the numbers of a problem, which n-grams cannot see. The score of a pair
is the TF-IDF cosine of its stemmed words times (shared + p) / (all + q), where shared and all weigh the numbers of both
by their rarity; two texts without numbers keep the factor p / q.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from services.curation.domain.leakage import Content, content_of

SHARED_PRIOR, ALL_PRIOR = 0.25, 1.0
_ROWS = 512
_COMMON = 0.2
"""Words in a greater share of all texts propose no pair by themselves; they still count in the score."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Pairs of a row and a held-out text with their score, by row."""

    row: NDArray[np.int64]
    held: NDArray[np.int64]
    score: NDArray[np.float64]

    def best(self) -> dict[int, tuple[int, float]]:
        """The best held-out text of each row, with its score."""
        order = np.lexsort((self.held, -self.score, self.row))
        found: dict[int, tuple[int, float]] = {}
        for at in order.tolist():
            found.setdefault(int(self.row[at]), (int(self.held[at]), float(self.score[at])))
        return found


class LexicalIndex:
    """Held-out texts and the weights of all words and numbers."""

    def __init__(self, rows: Sequence[str], held: Sequence[str]) -> None:
        """Weigh words by rarity among the rows and the held-out texts together."""
        self._rows, held_contents = [content_of(text) for text in rows], [content_of(text) for text in held]
        total = len(rows) + len(held) + 1
        words, numbers = Counter[str](), Counter[str]()
        for content in (*self._rows, *held_contents):
            words.update(content.words.keys())
            numbers.update(content.numbers)
        self._words = {word: at for at, word in enumerate(words)}
        self._numbers = {number: at for at, number in enumerate(numbers)}
        self._idf = np.array([math.log(total / count) for count in words.values()])
        self._rarity = np.array([math.log(total / count) for count in numbers.values()])
        self._held = self._weighted(held_contents)
        rare = np.array([count <= _COMMON * total for count in words.values()], dtype=np.float64)
        self._proposing = (self._held @ sparse.diags(rare, shape=(len(rare), len(rare)))).T.tocsr()
        self._held_numbers = self._rare_numbers(held_contents)
        self._held_all = np.asarray(self._held_numbers.multiply(self._held_numbers).sum(axis=1)).ravel()

    def scored(self, least: float) -> Scored:
        """Pairs whose score is at least `least`."""
        parts = list(self._scored(least))
        if not parts:
            empty: NDArray[np.int64] = np.empty(0, np.int64)
            return Scored(empty, empty, np.empty(0))
        return Scored(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _scored(self, least: float) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
        for at in range(0, len(self._rows), _ROWS):
            contents = self._rows[at : at + _ROWS]
            mine = self._weighted(contents)
            # What common words add to a cosine is small: a pair far below the threshold without them stays below it.
            proposed = (mine @ self._proposing).tocoo()
            likely = proposed.data >= least / 2
            row, held = proposed.row[likely].astype(np.int64), proposed.col[likely].astype(np.int64)
            if not len(row):
                continue
            cosine = np.asarray(mine[row].multiply(self._held[held]).sum(axis=1)).ravel()
            near = cosine >= least
            row, held, cosine = row[near], held[near], cosine[near]
            numbers = self._rare_numbers(contents)
            shared = np.asarray(numbers[row].multiply(self._held_numbers[held]).sum(axis=1)).ravel()
            mine_all = np.asarray(numbers.multiply(numbers).sum(axis=1)).ravel()
            every = mine_all[row] + self._held_all[held] - shared
            score = cosine * (shared + SHARED_PRIOR) / (every + ALL_PRIOR)
            good = score >= least
            yield row[good] + at, held[good], score[good]

    def _weighted(self, contents: Sequence[Content]) -> sparse.csr_matrix:
        """Rows of unit length: TF-IDF weights of the words."""
        indices, data, borders = [], [], [0]
        for content in contents:
            places = [self._words[word] for word in content.words]
            weights = self._idf[places] * (1 + np.log(np.fromiter(content.words.values(), np.float64, len(places))))
            norm = math.sqrt(float(weights @ weights)) or 1.0
            indices += places
            data.append(weights / norm)
            borders.append(len(indices))
        values = np.concatenate([np.empty(0), *data])
        return sparse.csr_matrix((values, indices, borders), shape=(len(contents), max(1, len(self._words))))

    def _rare_numbers(self, contents: Sequence[Content]) -> sparse.csr_matrix:
        """Square roots of the numbers' rarity, so that a product of two rows is what they share."""
        indices, borders = [], [0]
        for content in contents:
            indices += sorted(self._numbers[number] for number in content.numbers)
            borders.append(len(indices))
        data = np.sqrt(self._rarity[indices]) if indices else np.empty(0)
        return sparse.csr_matrix((data, indices, borders), shape=(len(contents), max(1, len(self._numbers))))
