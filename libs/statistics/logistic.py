"""Small logistic regressions with cluster-robust errors, by Newton's method."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from libs.statistics.clusters import cluster_codes

_ROUNDS = 100


def fit_logistic(
    columns: NDArray[np.float64], outcomes: NDArray[np.float64], ridge: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Coefficients (k,) that maximise the likelihood of outcomes (n,) in [0, 1] given columns (n, k), less half the
    squared coefficients times `ridge` (k,). Outcomes of 1/2 are half a success (Papke & Wooldridge 1996).
    """
    found = np.zeros(columns.shape[1])
    for _ in range(_ROUNDS):
        expected = 1.0 / (1.0 + np.exp(-columns @ found))
        gradient = columns.T @ (outcomes - expected) - ridge * found
        step = np.linalg.solve(_curvature(columns, expected, ridge), gradient)
        # Far steps overshoot where the likelihood is flat.
        found = found + step * min(1.0, 4.0 / max(1e-12, float(np.abs(step).max())))
        if float(np.abs(step).max()) < 1e-10:
            break
    return found


def robust_covariance(
    columns: NDArray[np.float64],
    outcomes: NDArray[np.float64],
    ridge: NDArray[np.float64],
    found: NDArray[np.float64],
    clusters: Sequence[Hashable] | None,
) -> NDArray[np.float64]:
    """Sandwich covariance (k, k) by clusters with the factor C / (C - 1) (Liang & Zeger 1986, Biometrika 73:13)."""
    expected = 1.0 / (1.0 + np.exp(-columns @ found))
    bread = np.linalg.inv(_curvature(columns, expected, ridge))
    codes = cluster_codes(clusters, columns.shape[0])
    scores = columns * (outcomes - expected)[:, None]
    sums = np.stack([np.bincount(codes, column) for column in scores.T], axis=1)
    count = sums.shape[0]
    covariance: NDArray[np.float64] = bread @ (sums.T @ sums) @ bread * (count / max(1, count - 1))
    return covariance


def _curvature(
    columns: NDArray[np.float64], expected: NDArray[np.float64], ridge: NDArray[np.float64]
) -> NDArray[np.float64]:
    curvature: NDArray[np.float64] = (columns * (expected * (1.0 - expected))[:, None]).T @ columns + np.diag(ridge)
    return curvature
