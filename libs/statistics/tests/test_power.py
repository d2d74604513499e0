"""Power and sample size, printed before the run."""

import numpy as np
import pytest

from libs.contracts.errors import InvalidInput
from libs.statistics.gates import floor, non_inferiority
from libs.statistics.paired import paired_difference
from libs.statistics.power import (
    detectable_gain,
    floor_power,
    floor_size,
    paired_power,
    paired_size,
    prospects,
    sentence,
    sign_power,
    sign_size,
)


def test_sizes_are_the_published_ones() -> None:
    assert [paired_size(gain, 0.1, alpha=0.025) for gain in (0.02, 0.03, 0.05)] == [1955, 865, 307]
    assert [paired_size(0.0, share, bound=-0.02) for share in (0.05, 0.1, 0.2)] == [773, 1546, 3092]
    assert [sign_size(share) for share in (0.6, 0.7, 0.8)] == [210, 54, 23]
    assert paired_size(0.0, 0.1) is None
    assert floor_size(0.8, 0.8) is None
    assert sign_size(0.5) is None
    assert sign_size(0.501) == pytest.approx(1_962_215, rel=1e-3)
    exact, near = sign_size(0.533), sign_size(0.53)
    assert exact is not None
    assert near is not None
    assert exact * (0.033 / 0.03) ** 2 == pytest.approx(near, rel=0.04)


def test_the_power_foretold_is_the_power_had() -> None:
    rng, passed = np.random.default_rng(1), 0
    n, gain, discordance, margin = 400, 0.01, 0.11, 0.03
    for _ in range(600):
        u = rng.random(n)
        won, lost = (discordance + gain) / 2, (discordance - gain) / 2
        treatment = np.where(u < won, 1.0, np.where(u < won + lost, 0.0, 1.0))
        control = np.where(u < won, 0.0, 1.0)
        passed += paired_difference(treatment.tolist(), control.tolist()).p_greater(-margin) < 0.05
    assert passed / 600 == pytest.approx(paired_power(n, gain, discordance, bound=-margin), abs=0.05)


def test_the_power_of_a_floor_foretold_is_the_power_had() -> None:
    rng = np.random.default_rng(2)
    passed = [floor(int(right), 300, 0.8).verdict.value == "pass" for right in rng.binomial(300, 0.86, 1000)]
    assert np.mean(passed) == pytest.approx(floor_power(300, 0.86, 0.8), abs=0.05)
    size = floor_size(0.86, 0.8)
    assert size is not None
    assert floor_power(size, 0.86, 0.8) == pytest.approx(0.8, abs=0.01)


def test_the_exact_power_of_the_sign_test_is_that_of_its_definition() -> None:
    rng = np.random.default_rng(3)
    wins = rng.binomial(54, 0.7, 20_000)
    from libs.statistics.paired import mcnemar

    table = np.array([mcnemar(int(w), 54 - int(w)) <= 0.05 for w in range(55)])
    assert table[wins].mean() == pytest.approx(sign_power(54, 0.7), abs=0.01)
    assert sign_power(5, 0.99) == 0.0


def test_the_detectable_gain_has_the_power_it_claims() -> None:
    gain = detectable_gain(400, 0.1)
    assert gain is not None
    assert paired_power(400, gain, 0.1) == pytest.approx(0.8, abs=1e-6)
    assert detectable_gain(10, 0.05) is None


def test_groups_cost_power() -> None:
    assert paired_power(400, 0.04, 0.1, design_effect=3.0) < paired_power(400, 0.04, 0.1)
    assert paired_size(0.04, 0.1, design_effect=3.0) == pytest.approx(3 * (paired_size(0.04, 0.1) or 0), abs=3)


def test_a_person_is_told_before_the_run() -> None:
    loss = [sentence(400, -0.05, prospect) for prospect in prospects(400, -0.05)]
    assert "no loss beyond 5.0% is shown for equal arms with probability 94%" in loss[1]
    assert "80 % takes 495 items" in loss[2]
    gain = [sentence(400, 0.0, prospect) for prospect in prospects(400, 0.0)]
    assert "a true difference of +3.9% or more is shown with probability 80 %" in gain[1]
    assert "no difference is shown" in sentence(20, 0.0, prospects(20, 0.0)[0])


def test_a_gate_with_foreseeably_no_power_is_inconclusive_when_run() -> None:
    assert paired_power(100, 0.0, 0.2, bound=-0.02) < 0.2
    same = paired_difference([1.0, 0.0] * 10 + [1.0] * 80, [0.0, 1.0] * 10 + [1.0] * 80)
    assert non_inferiority(same, 0.02).verdict.value == "inconclusive"


def test_impossible_assumptions_are_refused() -> None:
    with pytest.raises(InvalidInput, match="cannot be"):
        paired_power(100, 0.2, 0.1)
    with pytest.raises(InvalidInput, match="strictly between"):
        paired_power(100, 0.0, 0.1, alpha=0.0)
