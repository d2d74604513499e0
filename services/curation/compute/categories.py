"""`python -m services.curation.compute.categories REQUEST`: categories proposed by clustering what is asked.

Latent semantic analysis (Deerwester et al., 1990) of hashed words, then spherical k-means from far-apart seeds
(k-means++, Arthur and Vassilvitskii, 2007, made deterministic); the number of clusters by silhouette on a sample.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse.linalg import svds

from libs.contracts.errors import InvalidInput
from services.curation.compute.build import context_of, run_child
from services.curation.compute.mislabels import featurise
from services.curation.compute.readable import readable
from services.curation.compute.steps.repair import clean
from services.curation.domain.rows import asked
from services.curation.domain.text import words

_MOST_ROWS, _SAMPLE, _DIMENSIONS, _ROUNDS = 20_000, 1_000, 48, 25
_TRIED = (4, 6, 8, 10, 12, 16, 20)
_LEAST = 40
_SHOWN = 3


def main(request_file: str) -> None:
    """Propose categories for the rows of a request."""
    run_child(request_file, propose)


def propose(request: dict[str, Any]) -> dict[str, Any]:
    """Categories, largest first: name, rows, telling words, examples, and the present categories of its rows.

    `count` 0 lets the rows decide how many. InvalidInput when there are fewer than 40 rows with text.
    """
    rows, context = context_of({**request, "fractions": None, "suite": None})
    # As the policy on personal data lets them be read: examples are quoted, and words are counted.
    rows = [row for row in readable(rows, context, None).rows if row.input][-_MOST_ROWS:]
    if len(rows) < _LEAST:
        raise InvalidInput(f"{len(rows)} rows are too few to propose categories; {_LEAST} are needed", field="task")
    texts = [clean(asked(row)) for row in rows]
    vectors = embed(texts)
    count = int(request["count"]) or _best(vectors)
    labels = cluster(vectors, count)
    proposals = []
    spread = Counter(word for text in texts for word in set(words(text)))
    for label in range(count):
        members = np.flatnonzero(labels == label)
        if not len(members):
            continue
        telling = _telling([texts[i] for i in members], spread, len(texts))
        centre = vectors[members].mean(axis=0)
        nearest = members[np.argsort(-(vectors[members] @ centre), kind="stable")][:_SHOWN]
        present = Counter(rows[i].category or "none" for i in members)
        proposals.append(
            {
                "name": "-".join(telling[:2]) or f"category-{label}",
                "rows": len(members),
                "words": telling,
                "examples": [texts[i][:200] for i in nearest],
                "present": dict(present.most_common(5)),
            }
        )
    return {"rows": len(rows), "categories": sorted(proposals, key=lambda each: (-each["rows"], each["name"]))}


def embed(texts: Sequence[str]) -> np.ndarray:
    """Unit vectors (texts, dimensions) of latent semantic analysis, fitted on the texts themselves."""
    features = featurise(texts).astype(np.float64)
    rank = min(_DIMENSIONS, min(features.shape) - 1)
    left, strengths, _ = svds(features, k=rank, v0=np.ones(min(features.shape)), solver="arpack")
    vectors = left * strengths
    found: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return found


def cluster(vectors: np.ndarray, count: int) -> np.ndarray:
    """Labels of spherical k-means; the first seed is the row nearest the mean, each next the farthest from all."""
    first = int(np.argmax(vectors @ vectors.mean(axis=0)))
    seeds = [first]
    nearest = vectors @ vectors[first]
    while len(seeds) < min(count, len(vectors)):
        seeds.append(int(np.argmin(nearest)))
        nearest = np.maximum(nearest, vectors @ vectors[seeds[-1]])
    centres = vectors[seeds]
    labels: np.ndarray = np.zeros(len(vectors), dtype=int)
    for _ in range(_ROUNDS):
        settled, labels = labels, np.argmax(vectors @ centres.T, axis=1)
        sums = np.stack([vectors[labels == at].sum(axis=0) for at in range(len(centres))])
        centres = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
        if np.array_equal(settled, labels):
            break
    return labels


def _best(vectors: np.ndarray) -> int:
    sample = vectors[:: max(1, len(vectors) // _SAMPLE)]
    tried = [count for count in _TRIED if count * 5 <= len(sample)] or [2]
    return max(tried, key=lambda count: (_silhouette(sample, cluster(sample, count)), -count))


def _silhouette(vectors: np.ndarray, labels: np.ndarray) -> float:
    """Mean silhouette by cosine distance (Rousseeuw, 1987)."""
    distance = 1 - vectors @ vectors.T
    names = sorted(set(labels.tolist()))
    if len(names) < 2:
        return -1.0
    means = np.stack([distance[:, labels == name].mean(axis=1) for name in names], axis=1)
    at = np.searchsorted(names, labels)
    own = means[np.arange(len(labels)), at]
    means[np.arange(len(labels)), at] = np.inf
    other = means.min(axis=1)
    return float(((other - own) / np.maximum(np.maximum(own, other), 1e-9)).mean())


def _telling(texts: Sequence[str], spread: Counter[str], total: int) -> list[str]:
    """Words that stand in this cluster far more often than elsewhere."""
    mine = Counter(word for text in texts for word in set(words(text)) if word.isalpha() and len(word) > 2)
    scored = {word: count / len(texts) * np.log(total / spread[word]) for word, count in mine.items()}
    return [word for word, _ in sorted(scored.items(), key=lambda pair: (-pair[1], pair[0]))[:6]]


if __name__ == "__main__":
    main(sys.argv[1])
