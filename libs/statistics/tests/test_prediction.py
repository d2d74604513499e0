"""Expert votes helped by a judge."""

import numpy as np
import pytest

from libs.contracts.errors import InvalidInput
from libs.statistics.prediction import judge_calibration, prediction_powered


def draw(rng: np.random.Generator, n: int, accuracy: float) -> tuple[list[float], list[float]]:
    """Expert votes, mean 0.6, and a judge who favours the treatment where he does not see."""
    votes = rng.choice([1.0, 0.5, 0.0], n, p=[0.5, 0.2, 0.3])
    guesses = rng.choice([1.0, 0.5, 0.0], n, p=[0.8, 0.1, 0.1])
    return votes.tolist(), np.where(rng.random(n) < accuracy, votes, guesses).tolist()


@pytest.mark.parametrize(("n", "others", "accuracy"), [(30, 300, 0.8), (60, 1000, 0.9), (60, 60, 0.5), (60, 600, 0.0)])
def test_the_interval_covers_though_the_judge_is_biased(n: int, others: int, accuracy: float) -> None:
    rng = np.random.default_rng(1)
    covered, narrower = [], []
    for _ in range(300):
        votes, judge = draw(rng, n + others, accuracy)
        found = prediction_powered(votes[:n], judge[:n], judge[n:])
        covered.append(found.estimate.low <= 0.6 <= found.estimate.high)
        narrower.append((found.estimate.high - found.estimate.low) / (found.experts.high - found.experts.low))
    assert np.mean(covered) >= 0.93
    assert np.mean(narrower) <= (0.9 if accuracy >= 0.8 else 1.0)


def test_a_good_judge_is_worth_expert_votes_and_a_useless_one_nothing() -> None:
    rng = np.random.default_rng(2)
    votes, judge = draw(rng, 1060, 0.9)
    good = prediction_powered(votes[:60], judge[:60], judge[60:])
    assert good.effective_labels > 120
    assert good.trust > 0.7
    votes, judge = draw(rng, 1060, 0.0)
    useless = prediction_powered(votes[:60], judge[:60], judge[60:])
    assert useless.effective_labels <= 75
    assert prediction_powered(votes[:60], [1.0] * 60, [1.0] * 1000).estimate == useless.experts


def test_the_estimate_is_the_formula_of_the_paper() -> None:
    rng = np.random.default_rng(3)
    votes, judge = draw(rng, 500, 0.8)
    found = prediction_powered(votes[:100], judge[:100], judge[100:])
    y, f, g = np.array(votes[:100]), np.array(judge[:100]), np.array(judge[100:])
    trust = np.cov(y, f)[0, 1] / ((1 + 100 / 400) * np.concatenate([f, g]).var(ddof=1))
    assert found.trust == pytest.approx(trust)
    assert found.estimate.value == pytest.approx(trust * g.mean() + (y - trust * f).mean())


def test_agreement_is_not_calibration() -> None:
    rng = np.random.default_rng(4)
    votes, judge = draw(rng, 300, 0.75)
    found = judge_calibration(votes, judge)
    assert found.admitted
    assert found.same.value > 0.75
    assert found.bias.low > 0.0


def test_a_judge_is_admitted_by_evidence_alone() -> None:
    rng = np.random.default_rng(5)
    assert not judge_calibration(*draw(rng, 100, 0.0)).admitted
    few = judge_calibration(*draw(rng, 20, 1.0))
    assert not few.admitted
    assert "fewer than 30" in few.reason
    assert not judge_calibration([1.0] * 50, [1.0] * 50).admitted
    assert judge_calibration([1.0, 0.0] * 30, [1.0, 0.0] * 30).admitted
    admitted = sum(judge_calibration(*draw(rng, 60, 0.18)).admitted for _ in range(300))
    assert admitted / 300 <= 0.05


@pytest.mark.parametrize(("n", "accuracy"), [(30, 0.8), (60, 0.5)])
def test_the_interval_of_the_correlation_covers(n: int, accuracy: float) -> None:
    rng = np.random.default_rng(6)
    truth = float(np.corrcoef(*draw(rng, 400_000, accuracy))[0, 1])
    found = [judge_calibration(*draw(rng, n, accuracy)).correlation for _ in range(300)]
    assert sum(one.low <= truth <= one.high for one in found) / 300 >= 0.93


def test_a_score_without_its_pair_is_refused() -> None:
    with pytest.raises(InvalidInput, match="judge's score"):
        prediction_powered([1.0], [], [])
    with pytest.raises(InvalidInput, match="lie in"):
        prediction_powered([1.0], [0.0], [2.0])
