"""Win rates and what they may be called."""

import numpy as np
import pytest

from libs.contracts.errors import InvalidInput
from libs.statistics.winrate import Standing, win_rate


def votes(wins: int, losses: int, ties: int = 0) -> list[float]:
    return [1.0] * wins + [0.0] * losses + [0.5] * ties


@pytest.mark.parametrize(
    ("scores", "standing"),
    [
        (votes(20, 5), Standing.TOO_FEW),
        (votes(35, 25), Standing.UNDECIDED),
        (votes(130, 70), Standing.BETTER),
        (votes(75, 25), Standing.STRONG),
        (votes(170, 30), Standing.PROVEN_STRONG),
        (votes(30, 90), Standing.WORSE),
    ],
)
def test_the_words_mean_what_they_say(scores: list[float], standing: Standing) -> None:
    assert win_rate(scores).standing is standing


def test_ties_count_half() -> None:
    found = win_rate(votes(30, 10, 20))
    assert found.fixed.value == pytest.approx(40 / 60)
    assert (found.wins, found.ties, found.losses) == (30, 20, 10)
    assert found.always.low <= found.fixed.low <= found.fixed.high <= found.always.high


def test_looking_after_every_vote_rarely_finds_what_is_not_there() -> None:
    rng, wrong = np.random.default_rng(1), 0
    for _ in range(40):
        scores = rng.choice([1.0, 0.5, 0.0], 400, p=[0.4, 0.2, 0.4]).tolist()
        standings = {win_rate(scores[:look]).standing for look in range(40, 400, 40)}
        wrong += bool(standings & {Standing.BETTER, Standing.STRONG, Standing.PROVEN_STRONG})
    assert wrong / 40 <= 0.05


def test_copies_of_a_vote_prove_nothing_more() -> None:
    scores = votes(18, 14)
    once, copied = win_rate(scores), win_rate([s for s in scores for _ in range(6)], [i // 6 for i in range(192)])
    assert copied.e_value == pytest.approx(once.e_value)
    assert copied.always.low == pytest.approx(once.always.low)


def test_no_votes_say_nothing() -> None:
    found = win_rate([])
    assert found.standing is Standing.TOO_FEW
    assert (found.always.low, found.always.high) == (0.0, 1.0)
    with pytest.raises(InvalidInput, match="lie in"):
        win_rate([2.0])
