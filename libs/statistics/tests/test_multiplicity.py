"""Adjusted p-values."""

import numpy as np
import pytest

from libs.contracts.errors import InvalidInput
from libs.statistics.multiplicity import benjamini_hochberg, holm


def test_holm_adjusts_in_steps() -> None:
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({}) == {}


def test_benjamini_hochberg_gives_its_own_paper_s_example() -> None:
    # Benjamini & Hochberg 1995, section 3.2: fifteen comparisons, of which the first four are claimed at 5 %.
    published = (0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719,
                 0.6528, 0.7590, 1.0)  # fmt: skip
    family = {f"h{i}": p for i, p in enumerate(published)}
    assert [name for name, p in benjamini_hochberg(family).items() if p <= 0.05] == ["h0", "h1", "h2", "h3"]
    assert [name for name, p in holm(family).items() if p <= 0.05] == ["h0", "h1", "h2"]


def test_the_error_rates_hold() -> None:
    rng = np.random.default_rng(1)
    family, discoveries = 0, []
    for _ in range(1000):
        p = {f"n{i}": float(v) for i, v in enumerate(rng.random(8))}
        p |= {f"t{i}": float(v) for i, v in enumerate(rng.beta(0.05, 5.0, 4))}
        family += any(v <= 0.05 for k, v in holm(p).items() if k.startswith("n"))
        claimed = [k for k, v in benjamini_hochberg(p).items() if v <= 0.05]
        discoveries.append(sum(k.startswith("n") for k in claimed) / max(1, len(claimed)))
    assert family / 1000 <= 0.055
    assert np.mean(discoveries) <= 0.055


def test_what_is_no_probability_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"slice: 1\.5"):
        holm({"slice": 1.5})
