"""A canary is watched after every bad request."""

import math
import random

import numpy as np
import pytest

from libs.contracts.errors import InvalidInput
from libs.statistics.evidence import plain
from libs.statistics.harm import HarmProcess, log_evidence_harm, log_evidence_safe, risk_interval, share_of_bad
from libs.statistics.simulate.peeking import Traffic, canary, canary_by_z_test

AT = {"alpha": 0.01, "challengers": 2000, "seed": 1}


@pytest.mark.parametrize("traffic", [Traffic(), Traffic(drift=True), Traffic(drift=True, ramp=True)])
def test_a_harmless_canary_is_rarely_rolled_back(traffic: Traffic) -> None:
    assert canary(traffic, runs=800, **AT).rate <= 0.01  # type: ignore[arg-type]


@pytest.mark.parametrize("traffic", [Traffic(risk=3.0), Traffic(risk=3.0, drift=True)])
def test_three_times_the_failures_are_found_within_250_canary_requests(traffic: Traffic) -> None:
    found = canary(traffic, runs=500, **AT)  # type: ignore[arg-type]
    assert found.rate >= 0.99
    assert found.median <= 250


def test_the_textbook_test_rolls_back_ten_times_too_often() -> None:
    assert canary_by_z_test(Traffic(), runs=300, **AT).rate > 0.1  # type: ignore[arg-type]


def test_the_simulation_does_what_the_process_does() -> None:
    # One run of each on the same coin: evidence after the same bad units is the same to the last digit that counts.
    process, draw = HarmProcess(), random.Random(9)
    counts: dict[float, tuple[int, int]] = {0.05: (0, 0), 0.25: (0, 0)}
    for number in range(60):
        rho = 0.05 if number < 30 else 0.25
        challenger = draw.random() < 0.2
        value = process.update(challenger, rho)
        ours, theirs = counts[rho]
        counts[rho] = (ours + challenger, theirs + (not challenger))
        assert log_evidence_harm(counts) == pytest.approx(value)


def test_harm_inside_the_tolerated_ratio_is_rarely_accused() -> None:
    draw, alarms = random.Random(4), 0
    for _ in range(200):
        process = HarmProcess(2.0)
        for _ in range(150):
            process.update(draw.random() < share_of_bad(2.0, 0.2), 0.2)
        alarms += process.peak >= math.log(100)
    assert alarms / 200 <= 0.01


def test_no_alarm_is_not_evidence_of_safety() -> None:
    few = {0.05: (1, 10)}
    assert log_evidence_harm(few) < math.log(20)
    assert log_evidence_safe(few, 2.0) < math.log(20)
    many = {0.5: (40, 60)}
    assert log_evidence_safe(many, 2.0) >= math.log(20)


def test_the_relative_risk_has_an_interval_that_holds_at_all_times() -> None:
    came = np.random.default_rng(6).random((1500, 200)) < share_of_bad(1.7, 0.25)
    ours = came.cumsum(axis=1)
    # The interval misses where one of its two processes, at the truth, has reached 2 / alpha.
    out = np.array(
        [[_ruled_out(won, n - won) if won <= n else False for won in range(201)] for n in range(1, 201)], dtype=bool
    )
    assert out[np.arange(200), ours].any(axis=1).mean() <= 0.05
    low, high = risk_interval({0.25: (145, 255)})
    assert 1.0 < low < 1.7 < high < 3.0
    assert log_evidence_harm({0.25: (145, 255)}, low) == pytest.approx(math.log(40), abs=1e-6)
    assert log_evidence_safe({0.25: (145, 255)}, high) == pytest.approx(math.log(40), abs=1e-6)
    assert risk_interval({}) == (1e-6, 1e6)
    assert risk_interval({0.5: (60, 0)})[1] == 1e6


def test_a_unit_whose_arm_was_certain_says_nothing() -> None:
    process = HarmProcess()
    process.update(True, 1.0)
    process.update(False, 0.0)
    assert process.log_evidence == pytest.approx(0.0)
    assert process.bad == 2
    assert log_evidence_harm({1.0: (5, 0), 0.0: (0, 5)}) == pytest.approx(0.0)


def test_evidence_follows_the_published_likelihood_and_its_peak_stays() -> None:
    assert share_of_bad(2.0, 0.05) == pytest.approx(0.1 / 1.05)
    process = HarmProcess()
    process.update(True, 0.05)
    assert 1.0 < plain(process.log_evidence) < 20.0
    peak = process.peak
    for _ in range(100):
        process.update(False, 0.05)
    assert process.log_evidence < 0.0
    assert process.peak == peak


def test_impossible_input_is_refused() -> None:
    with pytest.raises(InvalidInput):
        HarmProcess().update(True, 1.5)
    with pytest.raises(InvalidInput, match="at least 1"):
        HarmProcess(0.5)
    with pytest.raises(InvalidInput, match="bad units"):
        log_evidence_harm({0.2: (-1, 0)})


def _ruled_out(ours: int, theirs: int) -> bool:
    counts = {0.25: (ours, theirs)}
    return max(log_evidence_harm(counts, 1.7), log_evidence_safe(counts, 1.7)) >= math.log(40)
