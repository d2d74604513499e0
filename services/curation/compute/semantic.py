"""Semantic duplicates: texts that say the same in other words, by embeddings fitted on the corpus itself.

No model is fetched: hashed words and character n-grams, weighted by rarity, projected by a truncated SVD (latent
semantic analysis; Deerwester et al., 1990; randomised range finder: Halko, Martinsson, Tropp, 2011). Texts that differ
critically are kept apart here as among near duplicates: embeddings see numbers and negations least of all.
"""

import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from services.curation.compute.near import Names, clustered, told_apart, walls
from services.curation.compute.near_marks import marks
from services.curation.compute.near_pairs import Pairs, packed, proposed, rows_in, unpacked
from services.curation.compute.near_words import U64, mix, spans, tokenise
from services.curation.domain.clusters import NearDuplicates
from services.curation.domain.guard import MARKED
from services.curation.domain.leakage import stem
from services.curation.domain.text import words

Vectors: TypeAlias = NDArray[np.float32]
_BUCKETS = 1 << 15
_EXACT = 8_000
"""Up to so many texts all pairs are compared; beyond, those that random hyperplanes propose."""
_BANDS, _BITS = 48, 12
_BLOCK = 1024
_ITERATIONS, _EXTRA = 2, 16
_FITTED, _FITTED_CHARACTERS = 20_000, 12_000_000
"""Texts the embeddings are fitted on, and how long these are together at most, drawn from a larger corpus."""


class Embeddings(Protocol):
    """Turns texts into unit vectors; `dear` ones (a model behind an endpoint) are asked for few texts."""

    name: str
    dear: bool

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit rows [n, d]; a text of which nothing is known is a row of zeros."""
        ...


class StaticEmbeddings:
    """Embeddings fitted on a corpus, without a network or a model."""

    name = "static"
    dear = False

    def __init__(self, idf: NDArray[np.float64], basis: NDArray[np.float64]) -> None:
        self._idf = idf
        self._basis = basis

    @classmethod
    def fit(cls, texts: Sequence[str], *, dimensions: int = 96, seed: int = 1) -> "StaticEmbeddings":
        """Fit on the texts; fewer texts than dimensions give fewer dimensions."""
        rng = np.random.default_rng(seed)
        chosen = rng.permutation(len(texts))[:_FITTED]
        within = np.cumsum([len(texts[at]) for at in chosen.tolist()]) <= _FITTED_CHARACTERS
        drawn = np.sort(chosen[: max(1, int(np.count_nonzero(within)))]).tolist()
        counts = _counted([texts[at] for at in drawn])
        seen = np.bincount(counts.indices, minlength=_BUCKETS)
        idf = np.log((len(drawn) + 1) / (seen + 1)) + 1e-9
        matrix = _unit(counts @ sparse.diags(idf))
        width = min(dimensions, len(drawn))
        sample = matrix @ rng.standard_normal((_BUCKETS, min(len(drawn), width + _EXTRA)))
        for _ in range(_ITERATIONS):
            sample, _ = np.linalg.qr(sample)
            sample = matrix @ (matrix.T @ sample)
        span, _ = np.linalg.qr(sample)
        across = np.asarray((matrix.T @ span).T)
        values, turned = np.linalg.eigh(across @ across.T)
        kept = np.flatnonzero(values > 1e-9)[::-1][:width]
        if not len(kept):
            return cls(idf, np.zeros((_BUCKETS, 1)))
        return cls(idf, across.T @ (turned[:, kept] / np.sqrt(values[kept])))

    def embed(self, texts: Sequence[str]) -> Vectors:
        """As `Embeddings.embed`."""
        # The features of a text take a hundred times what its vector does.
        found: Vectors = np.empty((len(texts), self._basis.shape[1]), np.float32)
        for at in range(0, len(texts), _BLOCK):
            weighed = _unit(_counted(texts[at : at + _BLOCK]) @ sparse.diags(self._idf))
            found[at : at + _BLOCK] = unit(np.asarray(weighed @ self._basis).astype(np.float32))
        return found


def find_semantic(
    texts: Sequence[str],
    *,
    threshold: float = 0.9,
    guard: bool = True,
    embeddings: Embeddings | None = None,
    scopes: Sequence[str] | None = None,
    answers: Sequence[str] | None = None,
) -> NearDuplicates:
    """Merge texts whose embeddings have a cosine at or above the threshold; the rest as `compute.near.find_near`."""
    embeddings = embeddings or StaticEmbeddings.fit(texts)
    chunks = [tokenise(texts[start:stop]) for start, stop in spans(texts)]
    marked = np.concatenate([np.empty((len(MARKED), 0), np.uint64), *(marks(chunk) for chunk in chunks)], axis=1)
    wall, scope = walls(marked if guard else marked[:0], scopes, answers, len(texts))
    pairs = similar_pairs(embeddings.embed(texts), threshold) if len(texts) else Pairs.none()
    pairs = pairs.where(scope[pairs.left] == scope[pairs.right])
    inside = wall[pairs.left] == wall[pairs.right]
    similar, apart = pairs.where(inside), pairs.where(~inside)
    rows = rows_in(packed(similar.left, similar.right))
    names = Names.of(texts, rows if guard else rows[:0])
    renamed = names.differ(similar)
    apart, similar = apart.joined(similar.where(renamed)), similar.where(~renamed)
    told, kinds = told_apart(texts, apart, marked, names, guard=guard)
    return clustered(len(texts), similar, told, kinds, f"{embeddings.name}/cosine")


def similar_pairs(vectors: Vectors, threshold: float) -> Pairs:
    """Pairs of rows (earlier row on the right) with a cosine at or above the threshold."""
    if len(vectors) > _EXACT:
        left, right = unpacked(proposed(_hyperplanes(vectors), np.arange(len(vectors))))
        parts = [
            np.einsum("ij,ij->i", vectors[left[at : at + _BLOCK]], vectors[right[at : at + _BLOCK]])
            for at in range(0, len(left), _BLOCK)
        ]
        cosine = np.concatenate([np.empty(0, np.float32), *parts]).astype(np.float64)
        return Pairs(left, right, cosine).where(cosine >= threshold)
    found = [Pairs.none()]
    for at in range(0, len(vectors), _BLOCK):
        block = vectors[at : at + _BLOCK] @ vectors[: at + _BLOCK].T
        left, right = np.nonzero(block >= threshold)
        earlier = right < left + at
        left, right = left[earlier], right[earlier]
        found.append(Pairs(left + at, right, block[left, right].astype(np.float64)))
    return Pairs(
        np.concatenate([each.left for each in found]),
        np.concatenate([each.right for each in found]),
        np.concatenate([each.similarity for each in found]),
    )


def nearest(rows: Vectors, held: Vectors, threshold: float) -> dict[int, tuple[int, float]]:
    """The nearest held-out vector of each row that has one at or above the threshold, with the cosine."""
    found: dict[int, tuple[int, float]] = {}
    for at in range(0, len(rows), _BLOCK):
        block = rows[at : at + _BLOCK] @ held.T
        best = block.argmax(axis=1)
        score = block[np.arange(len(block)), best]
        for row in np.flatnonzero(score >= threshold).tolist():
            found[at + row] = int(best[row]), float(score[row])
    return found


def reaching(rows: Vectors, held: Vectors, threshold: float) -> int:
    """How many pairs of a row and a held-out vector have a cosine at or above the threshold."""
    blocks = (rows[at : at + _BLOCK] @ held.T for at in range(0, len(rows), _BLOCK))
    return sum(int((block >= threshold).sum()) for block in blocks)


def unit(vectors: Vectors) -> Vectors:
    """Rows of length one; rows of zeros stay."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Vectors = (vectors / np.where(length > 0, length, 1)).astype(np.float32)
    return scaled


def _hyperplanes(vectors: Vectors) -> U64:
    """[bands, n] keys: the sides of random hyperplanes each vector lies on (Charikar, 2002)."""
    drawn = np.random.default_rng(1).standard_normal((vectors.shape[1], _BANDS * _BITS)).astype(np.float32)
    powers = np.uint64(1) << np.arange(_BITS, dtype=np.uint64)
    keys: U64 = np.empty((_BANDS, len(vectors)), np.uint64)
    for at in range(0, len(vectors), _BLOCK):
        sides = (vectors[at : at + _BLOCK] @ drawn > 0).reshape(-1, _BANDS, _BITS)
        keys[:, at : at + _BLOCK] = (sides * powers).sum(axis=2, dtype=np.uint64).T
    return mix(keys + (np.arange(_BANDS, dtype=np.uint64)[:, None] << np.uint64(32)))


def _counted(texts: Sequence[str]) -> sparse.csr_matrix:
    """Damped counts of hashed stems and of character n-grams of three and four within words."""
    indices: list[int] = []
    borders = [0]
    for text in texts:
        for word in words(text):
            indices += _features(word)
        borders.append(len(indices))
    matrix = sparse.csr_matrix((np.ones(len(indices)), indices, borders), shape=(len(texts), _BUCKETS))
    matrix.sum_duplicates()
    matrix.data = 1 + np.log(matrix.data)
    return matrix


@lru_cache(65_536)
def _features(word: str) -> tuple[int, ...]:
    if not word:
        return ()
    framed = f"<{word}>"
    parts = [framed[at : at + size] for size in (3, 4) for at in range(len(framed) - size + 1)]
    return tuple(zlib.crc32(part.encode("utf-8", "surrogatepass")) % _BUCKETS for part in (stem(word), *parts))


def _unit(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return sparse.diags(1 / np.where(length > 0, length, 1)) @ matrix
