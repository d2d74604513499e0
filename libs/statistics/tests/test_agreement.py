"""Agreement between raters."""

from collections.abc import Hashable

import numpy as np
import pytest

from libs.contracts.errors import InvalidInput
from libs.statistics.agreement import agreement, krippendorff

# dustalov/evalica codings.csv, the data of Krippendorff 2011; also in its test_alpha.py.
CODINGS: list[list[Hashable | None]] = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, None],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 3],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]


def by_rater(units: list[list[Hashable | None]]) -> list[list[Hashable | None]]:
    return [list(row) for row in zip(*units, strict=True)]


def test_alpha_is_krippendorff_s_on_his_own_data() -> None:
    assert krippendorff(CODINGS) == pytest.approx(0.7434211, abs=1e-7)
    assert krippendorff(CODINGS, "ordinal") == pytest.approx(0.815, abs=5e-4)
    assert krippendorff(CODINGS, "interval") == pytest.approx(0.849, abs=5e-4)


def test_alpha_is_that_of_inspect_and_evalica_on_their_vectors() -> None:
    # UKGovernmentBEIS/inspect_ai tests/scorer/test_krippendorff.py; dustalov/evalica test_alpha.py.
    assert krippendorff(by_rater([[0, 1], [0, 1], [1, 0], [1, 0]])) == pytest.approx(-0.75, abs=1e-12)
    assert krippendorff(by_rater([[1, 1, 1], [0, 0, 0], [1, 1, 1], [0, 0, 1]])) == pytest.approx(0.6857142857142857)
    assert krippendorff(by_rater([[1, 1, 0], [0, 0, None]])) == pytest.approx(1 / 3)
    assert krippendorff(by_rater([["a", "a"], ["b", "b"], ["c", "c"]])) == 1.0
    assert krippendorff(by_rater([[5, 5], [5, 5]])) == 1.0
    assert krippendorff(by_rater([[1.0, 2.0], [3.0, 4.0], [1.0, 1.0]]), "interval") == pytest.approx(19 / 24)
    assert krippendorff(by_rater([[1, 1], [3, 4], [5, 5]]), "ordinal") == pytest.approx(94 / 99)
    assert krippendorff(by_rater([[1, 2], [2, 3], [3, 4]])) == pytest.approx(-0.1538462)
    assert krippendorff(by_rater([[1, 2], [2, 3], [3, 4]]), "interval") == pytest.approx(0.5454545)


def test_without_two_ratings_of_anything_there_is_no_agreement_to_speak_of() -> None:
    assert krippendorff([[1, None], [None, 2]]) is None
    nothing = agreement([[1, None], [None, 2]])
    assert (nothing.low, nothing.high, nothing.n) == (-1.0, 1.0, 0)
    unanimous = agreement([["left"] * 10, ["left"] * 10])
    assert (unanimous.value, unanimous.low) == (1.0, -1.0)


@pytest.mark.parametrize(("items", "accuracy"), [(40, 0.8), (120, 0.6)])
def test_the_interval_covers(items: int, accuracy: float) -> None:
    rng = np.random.default_rng(1)

    def ratings(n: int) -> list[list[Hashable | None]]:
        truth = rng.choice(3, n, p=[0.5, 0.3, 0.2])
        return [np.where(rng.random(n) < accuracy, truth, rng.choice(3, n)).tolist() for _ in range(3)]

    population = krippendorff(ratings(20_000))
    assert population is not None
    found = [agreement(ratings(items), draws=200) for _ in range(200)]
    assert sum(one.low <= population <= one.high for one in found) / 200 >= 0.93
    assert np.mean([one.high - one.low for one in found]) <= 0.45


def test_ratings_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(InvalidInput, match="no number"):
        krippendorff([["low"], ["high"]], "ordinal")
    with pytest.raises(InvalidInput, match="no level"):
        krippendorff(CODINGS, "ratio")
    with pytest.raises(InvalidInput, match="None where missing"):
        krippendorff([[1], [1, 2]])
