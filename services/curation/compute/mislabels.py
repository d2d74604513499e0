"""Label errors by cross-validated disagreement: a hashed linear model, and thresholds per class from its own certainty.

Confident learning: Northcutt, Jiang and Chuang, 2021 (J. Artif. Intell. Res. 70). The model is softmax regression on
hashed, log-scaled, IDF-weighted words and word pairs (feature hashing: Weinberger et al., 2009).
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from services.curation.domain.text import words

if TYPE_CHECKING:
    from scipy import sparse

_BITS = 15
_LEAST_PER_CLASS = 5
_LEAST_ROWS = 40
_MOST_ROWS, _MOST_CLASSES = 40_000, 200
_DECAY = 1e-4
_STEPS, _POWER = 60, 8


@dataclass(frozen=True, slots=True)
class Suspect:
    """Row `at` has a label the model gives `own`; it gives `better` the probability `best`."""

    at: int
    own: float
    better: str
    best: float


def checked(labels: Sequence[str]) -> list[int]:
    """The rows that are checked: none where there are too few, or one class alone.

    Classes of fewer than five rows, and all but the 200 largest, are neither learnt nor suspected: cost grows with
    rows times classes. Of more than 40,000 rows the newest are checked.
    """
    counts = Counter(labels)
    largest = sorted(counts, key=lambda label: (-counts[label], label))[:_MOST_CLASSES]
    learnt = {label for label in largest if counts[label] >= _LEAST_PER_CLASS}
    at = [i for i, label in enumerate(labels) if label in learnt][-_MOST_ROWS:]
    return at if len(at) >= _LEAST_ROWS and len({labels[i] for i in at}) > 1 else []


def suspects(texts: Sequence[str], labels: Sequence[str], *, folds: int, max_share: float) -> list[Suspect]:
    """Rows whose label is probably wrong, the clearest first, at most `max_share` of those `checked`. Deterministic."""
    at = np.array(checked(labels), dtype=int)
    if not len(at):
        return []
    classes = sorted({labels[i] for i in at})
    number = {label: place for place, label in enumerate(classes)}
    given = np.array([number[labels[i]] for i in at])
    features = featurise([texts[i] for i in at])
    held = np.zeros((len(at), len(classes)))
    for fold in range(folds):
        test = np.array([_fold(texts[i], folds) == fold for i in at])
        if test.any() and len(set(given[~test])) > 1:
            held[test] = predict(features[test], train(features[~test], given[~test], len(classes)))
    own = held[np.arange(len(at)), given]
    # A class is believed where the model is as sure of it as it is, on average, of rows that carry it; an easy class,
    # of which it is always sure, must not hide the errors that it is merely more than half sure of.
    threshold = np.minimum(0.5, np.array([held[given == c, c].mean() for c in range(len(classes))]))
    believed = np.where(held >= threshold, held, 0.0)
    best = believed.argmax(axis=1)
    margin = held[np.arange(len(at)), best] - own
    wrong = np.flatnonzero((believed.max(axis=1) > 0) & (best != given) & (margin > 0))
    ranked = sorted(wrong, key=lambda i: (-margin[i], i))[: int(max_share * len(at))]
    return [Suspect(int(at[i]), float(own[i]), classes[best[i]], float(held[i, best[i]])) for i in ranked]


def featurise(texts: Sequence[str]) -> sparse.csr_matrix:
    """Rows of hashed words and word pairs: float32 of shape (texts, 2**15), IDF-weighted, of length 1."""
    from scipy import sparse

    columns: list[int] = []
    values: list[float] = []
    ends = [0]
    for text in texts:
        tokens = words(text)
        pairs = [f"{left} {right}" for left, right in pairwise(tokens)]
        counted = Counter(
            zlib.crc32(token.encode("utf-8", "surrogatepass")) >> (32 - _BITS) for token in [*tokens, *pairs]
        )
        columns += counted.keys()
        values += [1.0 + float(np.log(count)) for count in counted.values()]
        ends.append(len(columns))
    matrix = sparse.csr_matrix(
        (np.array(values, np.float32), np.array(columns, np.int32), np.array(ends, np.int32)),
        shape=(len(texts), 1 << _BITS),
    )
    matrix.sort_indices()
    seen = np.asarray((matrix > 0).sum(axis=0)).ravel()
    idf = np.log((1 + len(texts)) / (1 + seen)).astype(np.float32) + 1
    weighted = matrix.multiply(idf[None, :]).tocsr()
    norms = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    return sparse.diags(1 / np.maximum(norms, 1e-9)).dot(weighted).tocsr()


def train(features: sparse.csr_matrix, given: np.ndarray, classes: int) -> np.ndarray:
    """Weights (features, classes) of softmax regression with L2 decay, by accelerated gradients (Nesterov, 1983)."""
    # What stands in one text alone teaches nothing of any other.
    used = np.flatnonzero(np.bincount(features.indices, minlength=features.shape[1]) > 1)
    seen = features[:, used]
    back = seen.T.tocsr()
    target: np.ndarray = np.zeros((len(given), classes))
    target[np.arange(len(given)), given] = 1.0
    step = 1.0 / (_bend(seen, back) + _DECAY)
    weights: np.ndarray = np.zeros((len(used), classes))
    ahead = weights
    for turn in range(_STEPS):
        gradient = back @ (_softmax(np.asarray(seen @ ahead)) - target) / len(given) + _DECAY * ahead
        before, weights = weights, ahead - step * gradient
        ahead = weights + turn / (turn + 3) * (weights - before)
    whole: np.ndarray = np.zeros((features.shape[1], classes))
    whole[used] = weights
    return whole


def _bend(seen: sparse.csr_matrix, back: sparse.csr_matrix) -> float:
    """A bound on the curvature of the loss: half the largest eigenvalue of the mean outer product, by iteration."""
    vector = np.ones(seen.shape[1])
    size = 1.0
    for _ in range(_POWER):
        vector = back @ (seen @ vector) / seen.shape[0]
        size = float(np.linalg.norm(vector)) or 1.0
        vector /= size
    return 0.55 * size


def predict(features: sparse.csr_matrix, weights: np.ndarray) -> np.ndarray:
    """Probabilities (rows, classes)."""
    found: np.ndarray = _softmax(np.asarray(features @ weights))
    return found


def _softmax(scores: np.ndarray) -> np.ndarray:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    found: np.ndarray = raised / raised.sum(axis=1, keepdims=True)
    return found


def _fold(text: str, folds: int) -> int:
    # By text, so that copies of one row do not vouch for each other.
    return zlib.crc32(" ".join(text.casefold().split()).encode("utf-8", "surrogatepass")) % folds
