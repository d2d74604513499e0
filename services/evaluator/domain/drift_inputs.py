"""How far what is asked now has moved from what was asked when the stable version began; by effect size."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.statistics.drift import bin_edges, counts_in, drift
from services.evaluator.domain.live import SKETCH

FEWEST = 20
_CLUSTERS = 8
_ROUNDS = 20
_COMMONEST = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """What one user asked, without text."""

    input_chars: int
    language: str
    category: str | None
    sketch: bytes


def drifts(reference: Sequence[Asked], current: Sequence[Asked], threshold: float) -> dict[str, Any]:
    """Drift per trait: length, language, category, cluster; empty while either side has fewer than FEWEST users."""
    if min(len(reference), len(current)) < FEWEST:
        return {}
    edges = bin_edges([each.input_chars for each in reference])
    # Clusters are learnt from one half of the reference and counted on the other: what they were fitted to lies nearer
    # to them than anything else ever will.
    centres = clusters_of([each.sketch for each in reference[::2]])
    before_now = {
        "length": tuple(counts_in([each.input_chars for each in side], edges) for side in (reference, current)),
        "language": _aligned([each.language for each in reference], [each.language for each in current]),
        "category": _aligned([each.category for each in reference], [each.category for each in current]),
        "cluster": tuple(_members([each.sketch for each in side], centres) for side in (reference[1::2], current)),
    }
    told = {}
    for trait, (before, now) in before_now.items():
        if len(before) < 2:
            continue
        found = drift(before, now, threshold=threshold)
        told[trait] = {
            "index": found.index.model_dump(),
            "distance": found.distance.model_dump(),
            "moved": {"fail": "moved", "pass": "steady"}.get(found.verdict.value, "inconclusive"),
            "threshold": found.threshold,
        }
    return told


def clusters_of(sketches: Sequence[bytes]) -> NDArray[np.float64]:
    """Centres (k, SKETCH) of the reference's sketches: Lloyd's k-means from a seeded k-means++ start."""
    points = _points(sketches)
    rng = np.random.default_rng(0)
    centres = points[[int(rng.integers(len(points)))]]
    while len(centres) < min(_CLUSTERS, len(points)):
        far = _distances(points, centres).min(axis=1)
        if far.sum() <= 0.0:
            break
        centres = np.vstack([centres, points[int(rng.choice(len(points), p=far / far.sum()))]])
    for _ in range(_ROUNDS):
        nearest = _distances(points, centres).argmin(axis=1)
        moved = np.array(
            [points[nearest == k].mean(axis=0) if (nearest == k).any() else centres[k] for k in range(len(centres))]
        )
        if np.allclose(moved, centres):
            break
        centres = moved
    return centres


def _members(sketches: Sequence[bytes], centres: NDArray[np.float64]) -> tuple[int, ...]:
    nearest = _distances(_points(sketches), centres).argmin(axis=1)
    return tuple(int(count) for count in np.bincount(nearest, minlength=len(centres)))


def _points(sketches: Sequence[bytes]) -> NDArray[np.float64]:
    return np.frombuffer(b"".join(sketches), dtype=np.int8).reshape(-1, SKETCH).astype(float) / 127.0


def _distances(points: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = ((points[:, None, :] - centres[None, :, :]) ** 2).sum(axis=2)
    return found


def _aligned(before: Sequence[str | None], now: Sequence[str | None]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Counts over the same names: the commonest of the reference, and everything else together."""
    counts = [Counter("?" if name is None else name for name in side) for side in (before, now)]
    names = [name for name, _ in counts[0].most_common(_COMMONEST)]
    rest = [sum(side.values()) - sum(side[name] for name in names) for side in counts]
    more = any(rest)
    first, second = (
        tuple(side[name] for name in names) + ((left,) if more else ()) for side, left in zip(counts, rest, strict=True)
    )
    return first, second
