"""Anytime-valid evidence: looking after every observation keeps the rate of false alarms."""

import math
import random

import pytest

from libs.contracts.errors import InvalidInput
from libs.statistics.bounded import confidence_sequence, log_evidence_above, log_evidence_below
from libs.statistics.evidence import plain
from libs.statistics.harm import HarmProcess, share_of_bad
from libs.statistics.votes import log_evidence_differs, log_evidence_wins

TWENTY = math.log(20)


def ever(draw: random.Random, p: float, looks: int, needed: float, evidence: object) -> int | None:
    wins = losses = 0
    for look in range(1, looks + 1):
        if draw.random() < p:
            wins += 1
        else:
            losses += 1
        if evidence(wins, losses) >= needed:  # type: ignore[operator]
            return look
    return None


@pytest.mark.parametrize("evidence", [log_evidence_differs, log_evidence_wins])
def test_peeking_at_fair_votes_rarely_raises_an_alarm(evidence: object) -> None:
    draw = random.Random(1)
    alarms = sum(ever(draw, 0.5, 400, TWENTY, evidence) is not None for _ in range(400))
    assert alarms / 400 <= 0.05


def test_a_clear_preference_is_found_soon() -> None:
    draw = random.Random(2)
    stops = sorted(ever(draw, 0.7, 2000, TWENTY, log_evidence_wins) or 2001 for _ in range(200))
    assert 20 <= stops[100] <= 60
    assert stops[180] <= 130


def test_vote_evidence_is_the_integral_it_claims_to_be() -> None:
    wins, losses, steps = 9, 4, 20000
    integral = sum(p**wins * (1 - p) ** losses for p in (0.5 + 0.5 * (k + 0.5) / steps for k in range(steps))) / steps
    assert log_evidence_wins(wins, losses) == pytest.approx(math.log(integral * 2**13), abs=1e-6)


def test_losing_votes_are_no_evidence_of_winning_however_many() -> None:
    assert log_evidence_wins(0, 5000) < 0
    assert math.isfinite(log_evidence_wins(10, 50_000))
    with pytest.raises(InvalidInput):
        log_evidence_wins(-1, 0)


def harm_run(
    draw: random.Random, *, risk: float, rho: float, base: float, units: int, ratio: float = 1.0
) -> int | None:
    process, challengers = HarmProcess(ratio), 0
    for number in range(units):
        # The base rate drifts and the share ramps up half-way: neither may matter.
        now = base * (1.0 + 0.8 * math.sin(number / 150))
        share = rho if number < units // 2 else min(0.5, rho * 3)
        challenger = draw.random() < share
        challengers += challenger
        if draw.random() < min(1.0, now * (risk if challenger else 1.0)):
            process.update(challenger, share)
            if process.log_evidence >= math.log(100):
                return challengers
    return None


@pytest.mark.parametrize("rho", [0.05, 0.25, 0.5])
def test_a_harmless_canary_is_rarely_accused_under_drift_and_ramp(rho: float) -> None:
    draw = random.Random(3)
    alarms = sum(harm_run(draw, risk=1.0, rho=rho, base=0.1, units=2000) is not None for _ in range(200))
    assert alarms / 200 <= 0.02


def test_harm_inside_the_tolerated_ratio_is_rarely_accused() -> None:
    draw = random.Random(4)
    alarms = sum(harm_run(draw, risk=2.0, rho=0.2, base=0.1, units=2000, ratio=2.0) is not None for _ in range(200))
    assert alarms / 200 <= 0.02


def test_a_harmful_canary_is_caught() -> None:
    draw = random.Random(5)
    stops = [harm_run(draw, risk=4.5, rho=0.05, base=0.2, units=3000) for _ in range(100)]
    caught = sorted(stop for stop in stops if stop is not None)
    assert len(caught) >= 99
    assert caught[50] <= 40


def test_a_unit_whose_arm_was_certain_says_nothing() -> None:
    process = HarmProcess()
    process.update(True, 1.0)
    process.update(False, 0.0)
    assert process.log_evidence == pytest.approx(0.0)
    assert process.bad == 2
    with pytest.raises(InvalidInput):
        process.update(True, 1.5)


def test_harm_evidence_follows_the_published_likelihood() -> None:
    assert share_of_bad(2.0, 0.05) == pytest.approx(0.1 / 1.05)
    process = HarmProcess()
    process.update(True, 0.05)
    assert 1.0 < plain(process.log_evidence) < 20.0
    peak = process.peak
    for _ in range(100):
        process.update(False, 0.05)
    assert process.log_evidence < 0.0
    assert process.peak == peak


def draw_score(draw: random.Random, win: float, loss: float) -> float:
    u = draw.random()
    return 1.0 if u < win else (-1.0 if u < win + loss else 0.0)


@pytest.mark.parametrize(("win", "loss", "bound"), [(0.2, 0.2, 0.0), (0.02, 0.07, -0.05), (0.3, 0.35, -0.05)])
def test_a_mean_at_the_bound_is_rarely_claimed_to_lie_above(win: float, loss: float, bound: float) -> None:
    draw = random.Random(6)
    alarms = 0
    for _ in range(200):
        counts = {1.0: 0, 0.0: 0, -1.0: 0}
        for _ in range(300):
            counts[draw_score(draw, win, loss)] += 1
            if log_evidence_above(counts, bound) >= TWENTY:
                alarms += 1
                break
    assert alarms / 200 <= 0.07


def test_a_hundred_ties_show_non_inferiority_and_never_superiority() -> None:
    assert log_evidence_above({0.0: 100}, -0.05) >= TWENTY
    assert log_evidence_above({0.0: 10_000}, 0.0) <= 0.0


def test_inferiority_is_found_and_mirrors_superiority() -> None:
    counts = {1.0: 3, 0.0: 30, -1.0: 40}
    assert log_evidence_below(counts, -0.05) >= TWENTY
    flipped = {1.0: 40, 0.0: 30, -1.0: 3}
    assert log_evidence_below(counts, 0.0) == pytest.approx(log_evidence_above(flipped, 0.0))


def test_evidence_of_superiority_is_always_evidence_of_non_inferiority() -> None:
    for wins in range(0, 30, 3):
        for losses in range(0, 30, 3):
            counts = {1.0: wins, 0.0: 10, -1.0: losses}
            assert log_evidence_above(counts, -0.05) >= log_evidence_above(counts, 0.0)


def test_the_confidence_sequence_holds_the_mean_at_all_times() -> None:
    draw = random.Random(8)
    missed = 0
    for _ in range(100):
        counts = {1.0: 0, 0.0: 0, -1.0: 0}
        for look in range(1, 301):
            counts[draw_score(draw, 0.4, 0.1)] += 1
            if look % 20 == 0:
                low, high = confidence_sequence(counts)
                if not low <= 0.3 <= high:
                    missed += 1
                    break
    assert missed <= 7
    assert confidence_sequence({}) == (-1.0, 1.0)
    low, high = confidence_sequence({1.0: 400, 0.0: 500, -1.0: 100})
    assert high - low < 0.25


def test_evidence_never_overflows() -> None:
    assert plain(10_000.0) == 1e300
    assert math.isfinite(log_evidence_above({1.0: 1_000_000}, 0.0))
