"""Votes may be looked at after every one."""

import math
import random

import pytest

from libs.contracts.errors import InvalidInput
from libs.statistics.simulate.peeking import votes_by_z_test, votes_peeked
from libs.statistics.votes import log_evidence_differs, log_evidence_wins, sign_test, vote_sequence


@pytest.mark.parametrize("alpha", [0.01, 0.05])
def test_fair_votes_peeked_at_two_thousand_times_rarely_give_a_verdict(alpha: float) -> None:
    assert votes_peeked(0.5, alpha=alpha, looks=2000, runs=2000, seed=1).rate <= alpha


def test_the_textbook_test_gives_a_false_verdict_every_other_time() -> None:
    assert votes_by_z_test(0.5, alpha=0.05, looks=2000, runs=500, seed=1).rate > 0.4


def test_a_clear_preference_is_found_soon() -> None:
    found = votes_peeked(0.7, alpha=0.05, looks=2000, runs=500, seed=2)
    assert found.rate == 1.0
    assert found.median <= 50


def test_evidence_is_the_integral_it_claims_to_be() -> None:
    wins, losses, steps = 9, 4, 20000
    for share in (0.5, 0.7):
        grid = [share + (1.0 - share) * (k + 0.5) / steps for k in range(steps)]
        integral = sum(p**wins * (1 - p) ** losses for p in grid) / steps
        null = share**wins * (1 - share) ** losses
        assert log_evidence_wins(wins, losses, share) == pytest.approx(math.log(integral / null), abs=1e-6)
    whole = sum(((k + 0.5) / steps) ** wins * (1 - (k + 0.5) / steps) ** losses for k in range(steps)) / steps
    assert log_evidence_differs(wins, losses, 0.3) == pytest.approx(math.log(whole / (0.3**9 * 0.7**4)), abs=1e-6)


def test_losing_votes_are_no_evidence_of_winning_however_many() -> None:
    assert log_evidence_wins(0, 5000) < 0
    assert math.isfinite(log_evidence_wins(10, 50_000))
    assert log_evidence_wins(10, 50_000) < 0
    assert log_evidence_differs(0, 5000) > 1000


def test_the_sequence_of_intervals_holds_the_truth_at_all_times() -> None:
    draw = random.Random(3)
    missed = 0
    for _ in range(200):
        wins = 0
        for n in range(1, 1001):
            wins += draw.random() < 0.62
            # At the truth the interval ends where its evidence reaches 1 / alpha.
            if log_evidence_differs(wins, n - wins, 0.62) >= math.log(20):
                missed += 1
                break
    assert missed / 200 <= 0.05
    low, high = vote_sequence(620, 380)
    assert log_evidence_differs(620, 380, low) == pytest.approx(math.log(20), abs=1e-6)
    assert log_evidence_differs(620, 380, high) == pytest.approx(math.log(20), abs=1e-6)
    assert high - low < 0.13
    assert vote_sequence(0, 0) == (0.0, 1.0)
    assert vote_sequence(0, 9)[0] == 0.0
    assert vote_sequence(9, 0)[1] == 1.0


def test_the_sign_test_is_exact() -> None:
    # 14 of 20, 21 of 30: the figures of scipy's binomtest, one-sided.
    assert sign_test(14, 6) == pytest.approx(0.0576591, abs=1e-6)
    assert sign_test(21, 9) == pytest.approx(0.0213869, abs=1e-6)
    for n in (6, 17, 40, 150):
        assert sum(math.comb(n, wins) for wins in range(n + 1) if sign_test(wins, n - wins) <= 0.05) / 2**n <= 0.05
    assert sign_test(0, 3) == 1.0
    assert sign_test(3, 0) == pytest.approx(0.125)


def test_impossible_votes_are_refused() -> None:
    with pytest.raises(InvalidInput, match="negative"):
        log_evidence_wins(-1, 0)
    with pytest.raises(InvalidInput, match="nothing to test"):
        log_evidence_wins(1, 0, 1.0)
