"""Means of clustered scores and their errors."""

import math

import numpy as np
import pytest

from libs.contracts.errors import InvalidInput
from libs.statistics.clusters import clustered_error, clustered_mean, design_effect


def test_the_clustered_error_is_that_of_inspect_on_its_own_vectors() -> None:
    # UKGovernmentBEIS/inspect_ai tests/scorer/test_metric.py: test_stderr, test_clustered_stderr and the pairwise one.
    assert clustered_error(list(range(10)), range(10))[0] == pytest.approx(0.957, abs=5e-4)
    assert clustered_error(list(range(20)), [i % 4 for i in range(20)])[0] == pytest.approx(0.645, abs=5e-4)
    assert clustered_error([1.0, 0.0, 1.0], ["only"] * 3) == (0.0, 1)
    values = [float(i % 5) for i in range(200)]
    names = ["big" if i < 180 else f"small{i}" for i in range(200)]
    deviations = np.array(values) - np.mean(values)
    pairwise = sum(
        a * b
        for a, left in zip(deviations, names, strict=True)
        for b, right in zip(deviations, names, strict=True)
        if left == right
    )
    assert clustered_error(values, names)[0] == pytest.approx(math.sqrt(pairwise * 21 / 20) / 200, rel=1e-12)


def test_with_equal_clusters_the_robust_error_is_the_plain_one() -> None:
    values = [float(i) for i in range(20)]
    names = [i % 4 for i in range(20)]
    found = clustered_mean(values, names)
    assert found.standard_error == pytest.approx(clustered_error(values, names)[0])
    assert found.freedom == pytest.approx(3.0)


def test_the_degrees_of_freedom_are_those_of_the_matrix_formula() -> None:
    sizes, correlation = np.array([1, 2, 3, 4, 50, 3, 3]), 0.0
    share = sizes / sizes.sum()
    total = sizes * (1 + (sizes - 1) * correlation)
    cov = np.diag(total) - np.outer(share, total) - np.outer(total, share) + np.outer(share, share) * total.sum()
    weighted = cov / np.sqrt(np.outer(1 - share, 1 - share))
    # Scores that cancel within each cluster show no correlation, for which the working model is that of independence.
    values = np.concatenate([np.resize([1.0, -1.0], n) - (n % 2) / n for n in sizes])
    found = clustered_mean(values, np.repeat(np.arange(7), sizes).tolist())
    assert found.freedom == pytest.approx(np.trace(weighted) ** 2 / np.sum(weighted**2), rel=1e-6)


def test_one_large_cluster_among_small_ones_leaves_hardly_any_degrees_of_freedom() -> None:
    names = ["big"] * 180 + [f"small{i}" for i in range(20)]
    assert clustered_mean([float(i % 2) for i in range(200)], names).freedom < 2.0


def test_copies_inflate_the_design_and_singletons_do_not() -> None:
    values = [float(i % 2) for i in range(40)]
    assert design_effect(values, range(40)) == 1.0
    copies, names = [v for v in values for _ in range(3)], [i for i in range(40) for _ in range(3)]
    assert design_effect(copies, names) == pytest.approx(3.0, rel=0.02)
    assert design_effect([1.0] * 30, [i // 3 for i in range(30)]) == 3.0
    assert design_effect([], []) == 1.0


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(InvalidInput, match="finite"):
        clustered_mean([0.0, math.nan])
    with pytest.raises(InvalidInput, match="one length"):
        clustered_mean([0.0, 1.0], ["a"])
