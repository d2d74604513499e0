"""Means of scores that come in clusters: items of one document, customer or template are not independent."""

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from libs.contracts.errors import InvalidInput

_DESIGN_LIMIT = 1e6
_TRUSTED = 8.0  # with fewer the estimate of the tails is itself noise


@dataclass(frozen=True, slots=True)
class ClusteredMean:
    """A mean with its cluster-robust standard error.

    `freedom` are the Satterthwaite degrees of freedom of the error; `freedom + 1` is the number of equal clusters that
    would know as much about it. `design_effect` is how many times clusters inflate the variance, at least 1;
    `company` is the number of items in the cluster of the average item, the worst that the design effect could be;
    `skewness` that of the mean itself, from the cluster sums. `trusted` are the degrees of freedom left when the error
    hangs on few clusters that stand out: fewer than `freedom` where the sums have heavier tails than the normal.
    """

    mean: float
    standard_error: float
    freedom: float
    n: int
    clusters: int
    design_effect: float
    company: float
    skewness: float
    trusted: float


def clustered_mean(values: ArrayLike, clusters: Sequence[Hashable] | None = None) -> ClusteredMean:
    """Mean of `values` (n,) where `clusters[i]` names what item i shares with others; by default each stands alone.

    The variance is CR2, unbiased for independent items whatever the cluster sizes (Bell & McCaffrey 2002, Survey
    Methodology 28:169); with equal clusters it is the usual C / (C - 1) estimator (Miller 2024, arXiv 2411.00640). Its
    degrees of freedom follow Pustejovsky & Tipton (2018, JBES 36:672, section 2.3) with an exchangeable working model
    whose intra-cluster correlation is estimated: one large cluster among small ones leaves hardly any.
    """
    scores = np.asarray(values, dtype=float)
    if scores.ndim != 1 or (clusters is not None and len(clusters) != scores.size):
        raise InvalidInput("values and clusters must be two sequences of one length", field="clusters")
    if not np.isfinite(scores).all():
        raise InvalidInput("values must be finite numbers", field="values")
    n = scores.size
    if n == 0:
        return ClusteredMean(0.0, 0.0, 0.0, 0, 0, 1.0, 1.0, 0.0, 0.0)
    mean = math.fsum(scores) / n
    codes = cluster_codes(clusters, n)
    sums, sizes = np.bincount(codes, scores - mean), np.bincount(codes)
    count = sizes.size
    if count < 2:
        return ClusteredMean(mean, 0.0, 0.0, n, count, 1.0, float(n), 0.0, 0.0)
    kept = 1.0 - sizes / n
    company = float(np.sum(sizes**2)) / n
    variance, squares = float(np.sum(sums**2 / kept)) / n**2, float(np.sum(sums**2))
    alone = float(np.sum((scores - mean) ** 2)) / (n - 1) / n
    if alone <= 1e-24 * max(1.0, mean * mean):
        # Without variation nothing can be estimated: within a cluster all items may be one fact.
        freedom = _freedom(sizes, 1.0)
        return ClusteredMean(mean, 0.0, freedom, n, count, company, company, 0.0, freedom)
    freedom = _freedom(sizes, _correlation(sums, sizes, float(np.sum((scores - mean) ** 2))))
    # Var[V] of a sum of squares takes fourth moments; the normal's are three times the squared second.
    tails = 3.0 * squares**2 / float(np.sum(sums**4)) - 1.0 if squares > 0.0 else freedom
    return ClusteredMean(
        mean=mean,
        standard_error=math.sqrt(variance),
        freedom=freedom,
        n=n,
        clusters=count,
        design_effect=min(_DESIGN_LIMIT, variance / alone) if variance > alone * (1.0 + 1e-9) else 1.0,
        company=company,
        skewness=float(np.sum(sums**3)) / squares**1.5 if squares > 0.0 else 0.0,
        trusted=min(freedom, max(_TRUSTED, tails)),
    )


def clustered_error(values: Sequence[float], clusters: Sequence[Hashable]) -> tuple[float, int]:
    """Standard error of the mean in its plainest clustered form, C / (C - 1) times the sum of squared cluster sums
    (Liang & Zeger 1986; Miller 2024, arXiv 2411.00640), and the number of clusters; 0 with fewer than two.
    """
    scores = np.asarray(values, dtype=float)
    if scores.size == 0:
        return 0.0, 0
    sums = np.bincount(cluster_codes(clusters, scores.size), scores - scores.mean())
    if sums.size < 2:
        return 0.0, int(sums.size)
    return math.sqrt(sums.size / (sums.size - 1) * float(np.sum(sums**2))) / scores.size, int(sums.size)


def design_effect(values: Sequence[float], clusters: Sequence[Hashable]) -> float:
    """How many times clusters inflate the variance of the mean, at least 1.

    Where the values do not vary it cannot be estimated and the worst is taken: within a cluster all may be one fact.
    """
    return clustered_mean(values, clusters).design_effect


def cluster_codes(clusters: Sequence[Hashable] | None, n: int) -> NDArray[np.intp]:
    """Clusters as consecutive numbers (n,), in the order in which they first occur."""
    seen: dict[Hashable, int] = {}
    names: Iterable[Hashable] = range(n) if clusters is None else clusters
    codes: NDArray[np.intp] = np.fromiter((seen.setdefault(name, len(seen)) for name in names), np.intp, count=n)
    return codes


def _correlation(sums: NDArray[np.float64], sizes: NDArray[np.intp], squares: float) -> float:
    # Moment estimate of the intra-cluster correlation: products of different items of one cluster over squares.
    pairs = float(np.sum(sizes * (sizes - 1.0)))
    if pairs == 0.0 or squares == 0.0:
        return 0.0
    return min(1.0, max(0.0, (float(np.sum(sums**2)) - squares) / pairs / (squares / float(sizes.sum()))))


def _freedom(sizes: NDArray[np.intp], correlation: float) -> float:
    # Satterthwaite: 2 E[V]^2 / Var[V] for V = sum of a_g S_g^2, with S_g the residual sums under a working model where
    # cluster totals have variance v_g = n_g (1 + (n_g - 1) rho). Cov(S_g, S_k) = v_g [g = k] - h_g v_k - h_k v_g
    # + h_g h_k v.
    share = sizes / sizes.sum()
    total = sizes * (1.0 + (sizes - 1.0) * correlation)
    weight = 1.0 / (1.0 - share)
    whole = float(total.sum())
    diagonal = total - 2.0 * share * total + share**2 * whole
    expected = float(np.sum(weight * diagonal))
    # The sum over all g, k of a_g a_k (h_g h_k v - h_g v_k - h_k v_g)^2 in closed form, then its diagonal put right.
    h2, t2, ht = (float(np.sum(weight * x)) for x in (share**2, total**2, share * total))
    everywhere = whole**2 * h2**2 + 2.0 * h2 * t2 + 2.0 * ht**2 - 4.0 * whole * h2 * ht
    off = share**2 * whole - 2.0 * share * total
    spread = everywhere + float(np.sum(weight**2 * (diagonal**2 - off**2)))
    return max(1.0, expected**2 / spread) if spread > 0.0 else 1.0
