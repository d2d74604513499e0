"""Three arms or more compared in pairs: strengths that explain who beats whom, with intervals."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from libs.contracts.errors import InvalidInput
from libs.contracts.estimates import Estimate
from libs.statistics.clusters import cluster_codes
from libs.statistics.special import student_quantile

_ROUNDS = 200


@dataclass(frozen=True, slots=True)
class Comparison:
    """One judged pair; `outcome` is 1 where left won, 0 where right won, 1/2 for a tie."""

    left: str
    right: str
    outcome: float
    cluster: Hashable = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """Log-strengths by arm, averaging 0, with intervals; `ties` is Davidson's parameter (0 where ties count half).

    `covariance` (arms, arms) is in the order of `arms`, the strongest first.
    """

    arms: tuple[str, ...]
    strengths: dict[str, Estimate]
    ties: float
    covariance: NDArray[np.float64]
    freedom: float

    def beats(self, left: str, right: str, confidence: float = 0.95) -> Estimate:
        """Probability that `left` wins where the pair is decisive."""
        i, j = self.arms.index(left), self.arms.index(right)
        gap = self.strengths[left].value - self.strengths[right].value
        variance = self.covariance[i, i] + self.covariance[j, j] - 2.0 * self.covariance[i, j]
        reach = student_quantile(0.5 + confidence / 2.0, self.freedom) * math.sqrt(max(0.0, float(variance)))
        low, value, high = (1.0 / (1.0 + math.exp(-(gap + shift))) for shift in (-reach, 0.0, reach))
        return Estimate(value=value, low=low, high=high, n=self.strengths[left].n)


def bradley_terry(comparisons: Sequence[Comparison], *, confidence: float = 0.95) -> Ranking:
    """Bradley & Terry (1952, Biometrika 39:324) with ties as half a win each."""
    return _rank(comparisons, confidence, with_ties=False)


def davidson(comparisons: Sequence[Comparison], *, confidence: float = 0.95) -> Ranking:
    """Davidson (1970, JASA 65:317): a tie has probability proportional to `ties` times the geometric mean of the two
    strengths. Ties as half a win pull strengths together; where they are more than a tenth this does not.
    """
    return _rank(comparisons, confidence, with_ties=True)


def _rank(comparisons: Sequence[Comparison], confidence: float, *, with_ties: bool) -> Ranking:
    arms = sorted({name for one in comparisons for name in (one.left, one.right)})
    if len(arms) < 2 or any(one.left == one.right for one in comparisons):
        raise InvalidInput("a ranking needs comparisons between two arms or more", field="comparisons")
    if with_ties and any(one.outcome not in (0.0, 0.5, 1.0) for one in comparisons):
        raise InvalidInput("an outcome is 1, 0 or 1/2", field="comparisons")
    place = {name: index for index, name in enumerate(arms)}
    left = np.array([place[one.left] for one in comparisons])
    right = np.array([place[one.right] for one in comparisons])
    outcome = np.array([one.outcome for one in comparisons])
    _connected(arms, left, right, outcome)
    tied = with_ties and bool(np.any(outcome == 0.5))
    names = [index if one.cluster is None else one.cluster for index, one in enumerate(comparisons)]
    codes = cluster_codes(names, len(names))
    found, covariance = _fit(len(arms), left, right, outcome, codes, tied=tied)
    freedom = max(1.0, float(codes.max()) + 1.0 - len(arms) - float(tied) + 1.0)
    reach = student_quantile(0.5 + confidence / 2.0, freedom)
    counts = np.bincount(left, minlength=len(arms)) + np.bincount(right, minlength=len(arms))
    order = sorted(range(len(arms)), key=lambda index: (-found[index], arms[index]))
    strengths = {}
    for index in order:
        value, error = float(found[index]), math.sqrt(max(0.0, float(covariance[index, index])))
        low, high = value - reach * error, value + reach * error
        strengths[arms[index]] = Estimate(value=value, low=low, high=high, n=int(counts[index]))
    ties = math.exp(float(found[-1])) if tied else 0.0
    return Ranking(tuple(arms[i] for i in order), strengths, ties, covariance[np.ix_(order, order)], freedom)


def _fit(
    arms: int,
    left: NDArray[np.intp],
    right: NDArray[np.intp],
    outcome: NDArray[np.float64],
    codes: NDArray[np.intp],
    *,
    tied: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log-strengths, averaging 0, then the log tie parameter; and their cluster-robust covariance.

    Both models give win, tie and loss the log-weights s_l - m, log nu and s_r - m, with m the mean of the two
    log-strengths: a softmax in which Newton's method needs features only.
    """
    size = arms + int(tied)
    features = np.zeros((left.size, 3, size))
    rows = np.arange(left.size)
    for which, sign in ((0, 0.5), (2, -0.5)):
        features[rows, which, left] += sign
        features[rows, which, right] -= sign
    if tied:
        features[:, 1, arms] = 1.0
    seen = np.stack([outcome, np.zeros_like(outcome), 1.0 - outcome], axis=1)
    if tied:
        seen = np.stack([outcome == 1.0, outcome == 0.5, outcome == 0.0], axis=1).astype(float)
    # Strengths matter by their differences only; this pins their mean and changes nothing else.
    pinned = np.zeros((size, size))
    pinned[:arms, :arms] = 1.0
    found = np.zeros(size)
    for _ in range(_ROUNDS):
        scores, curvature = _newton(features, seen, found, tied=tied)
        step = np.linalg.solve(curvature + pinned, scores.sum(axis=0))
        found = found + step * min(1.0, 2.0 / max(1e-12, float(np.abs(step).max())))
        if float(np.abs(step).max()) < 1e-11:
            break
    scores, curvature = _newton(features, seen, found, tied=tied)
    bread = np.linalg.inv(curvature + pinned)
    sums = np.stack([np.bincount(codes, column) for column in scores.T], axis=1)
    covariance = bread @ (sums.T @ sums) @ bread * (sums.shape[0] / max(1, sums.shape[0] - 1))
    return found, covariance


def _newton(
    features: NDArray[np.float64], seen: NDArray[np.float64], found: NDArray[np.float64], *, tied: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    weights = features @ found
    if not tied:
        weights[:, 1] = -np.inf
    chance = np.exp(weights - weights.max(axis=1, keepdims=True))
    chance /= chance.sum(axis=1, keepdims=True)
    mean = np.einsum("nc,ncs->ns", chance, features)
    scores = np.einsum("nc,ncs->ns", seen, features) - mean
    curvature = np.einsum("nc,ncs,nct->st", chance, features, features) - mean.T @ mean
    return scores, curvature


def _connected(
    arms: Sequence[str], left: NDArray[np.intp], right: NDArray[np.intp], outcome: NDArray[np.float64]
) -> None:
    """Strengths are finite only if from every arm a chain of wins leads to every other (Ford 1957)."""
    reach = np.eye(len(arms), dtype=bool)
    reach[left[outcome > 0.0], right[outcome > 0.0]] = True
    reach[right[outcome < 1.0], left[outcome < 1.0]] = True
    for middle in range(len(arms)):
        reach |= np.outer(reach[:, middle], reach[middle])
    if not reach.all():
        i, j = (int(index) for index in np.argwhere(~reach)[0])
        message = f"no chain of wins leads from {arms[i]} to {arms[j]}: their strengths cannot be told on one scale"
        raise InvalidInput(message, field="comparisons")
