"""Re-weighting to the traffic mix."""

import numpy as np
import pytest

from libs.contracts.errors import InvalidInput
from libs.contracts.estimates import Verdict
from libs.statistics.gates import superiority
from libs.statistics.stratified import stratified_difference, stratified_mean

MIX = {"billing": 0.7, "login": 0.25, "other": 0.05}
OURS = {"billing": 0.9, "login": 0.5, "other": 0.2}
THEIRS = {"billing": 0.8, "login": 0.5, "other": 0.3}


def test_the_value_is_that_of_the_mix_and_its_interval_covers() -> None:
    rng, mean, gap = np.random.default_rng(1), [], []
    for _ in range(250):
        strata = rng.choice(list(MIX), 240).tolist()
        ours, theirs = ([float(rng.random() < rate[name]) for name in strata] for rate in (OURS, THEIRS))
        one = stratified_mean(ours, strata, MIX, draws=200).interval()
        two = stratified_difference(ours, theirs, strata, MIX, draws=200).interval()
        mean.append(one.low <= 0.765 <= one.high)
        gap.append(two.low <= 0.065 <= two.high)
    assert np.mean(mean) >= 0.93
    assert np.mean(gap) >= 0.93


def test_few_items_with_much_weight_count_as_few() -> None:
    strata = ["billing"] * 15 + ["login"] * 60 + ["other"] * 60
    found = stratified_difference([1.0] * 135, [0.0] * 135, strata, MIX)
    assert found.evidence.n < 60
    assert superiority(found.evidence).verdict is Verdict.INCONCLUSIVE
    many = stratified_difference([1.0] * 300, [0.0] * 300, ["billing"] * 200 + ["login"] * 100, MIX)
    assert superiority(many.evidence).verdict is Verdict.PASS


def test_traffic_no_item_stands_for_is_named() -> None:
    found = stratified_mean([1.0, 0.0] * 40, ["billing", "login"] * 40, {**MIX, "fraud": 0.25})
    assert found.missing == ("fraud", "other")
    assert found.uncovered == pytest.approx(0.3 / 1.25)
    assert found.evidence.value == pytest.approx(0.7 / 0.95)


def test_a_mix_without_items_is_refused() -> None:
    with pytest.raises(InvalidInput, match="stands for"):
        stratified_mean([1.0], ["billing"], {"login": 1.0})
    with pytest.raises(InvalidInput, match="positive"):
        stratified_mean([1.0], ["billing"], {"billing": 0.0})
    with pytest.raises(InvalidInput, match="stratum"):
        stratified_mean([1.0], [], MIX)
