"""The edges between what is published, found anew for the proof: equal, near and semantic."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from libs.contracts.task import TaskSpec
from services.curation.compute.near_pairs import proposed, rows_in, verify, word_sets
from services.curation.compute.near_sketch import ALGORITHM, sketch
from services.curation.compute.near_words import I64
from services.curation.compute.overlap import METHOD, Overlap
from services.curation.compute.semantic import Embeddings, reaching, similar_pairs
from services.curation.domain.proof import PAIRS, Edges, Node, equal, nodes_of, prove
from services.curation.domain.rows import Row
from services.curation.domain.suite import Item
from services.curation.domain.text import Reading


def proof_of(
    rows: Sequence[Row],
    items: Sequence[Item],
    behind: Mapping[str, Row],
    spec: TaskSpec,
    near_at: float,
    embeddings: Embeddings | None,
) -> dict[str, Any]:
    """The proof for the manifest; `behind` as `nodes_of`. `near_at` is the Jaccard similarity of a near edge.

    DataLoss when an edge crosses.
    """
    nodes = nodes_of(rows, items, behind)
    left_out = {}
    if not spec.data.curation.customers:
        left_out["customer"] = "data.curation.customers is off: rows of one user may stand in several splits"
    if embeddings is None:
        left_out["semantic"] = "data.duplicates.semantic is off"
    return prove(nodes, _edges(nodes, spec, near_at, embeddings), left_out)


def _edges(nodes: Sequence[Node], spec: TaskSpec, near_at: float, embeddings: Embeddings | None) -> Iterator[Edges]:
    reading, texts = Reading(), [node.text for node in nodes]
    yield equal("group", "one permanent group", nodes, lambda node: node.group)
    yield equal("conversation", "one conversation", nodes, lambda node: node.conversation)
    if spec.data.curation.customers:
        yield equal("customer", "one user", nodes, lambda node: node.customer)
    yield equal("exact", "the same words in the same order", nodes, lambda node: reading.key(node.text))
    yield equal("template", "the same words, numbers masked", nodes, lambda node: reading.form(node.text))
    yield _near("near", nodes, texts, near_at, masked=False)
    yield _near("near_masked", nodes, texts, near_at, masked=True)
    if embeddings is not None and spec.data.duplicates.semantic is not None:
        threshold, vectors = spec.data.duplicates.semantic, embeddings.embed(texts)
        counted = len(similar_pairs(vectors, threshold).left) if texts else 0
        crossing = _across(nodes, lambda left, right: reaching(vectors[left], vectors[right], threshold))
        yield Edges("semantic", f"cosine of {embeddings.name}; across splits every pair", threshold, counted, crossing)


def _near(kind: str, nodes: Sequence[Node], texts: Sequence[str], threshold: float, *, masked: bool) -> Edges:
    """Within splits the pairs that buckets propose, since copies of a frame are too many to count; across, all."""
    pairs = proposed(sketch(texts, threshold, masked=masked).keys, np.arange(len(texts))) if texts else None
    counted = 0
    if pairs is not None and len(pairs):
        counted = len(verify(pairs, word_sets(texts, rows_in(pairs), masked=masked), threshold).left)
    overlap = Overlap(texts, threshold, masked=masked)
    crossing = _across(nodes, overlap.count)
    method = f"Jaccard over words{', numbers masked' if masked else ''}; {ALGORITHM}, verified; across splits {METHOD}"
    return Edges(kind, method, threshold, counted, crossing)


def _across(nodes: Sequence[Node], count: Callable[[I64, I64], int]) -> dict[tuple[str, str], int]:
    sides = np.array([node.split for node in nodes])
    return {
        (left, right): count(np.flatnonzero(sides == right), np.flatnonzero(sides == left)) for left, right in PAIRS
    }
