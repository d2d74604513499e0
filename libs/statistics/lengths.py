"""Win rates as they would be if both answers were equally long."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from libs.contracts.errors import InvalidInput
from libs.contracts.estimates import Estimate
from libs.statistics.clusters import clustered_mean
from libs.statistics.logistic import fit_logistic, robust_covariance
from libs.statistics.means import mean_estimate
from libs.statistics.special import student_quantile

RIDGE = 1.0
"""Prior precision of the effect of length: what a vote or two would say about it."""


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """Win rate at equal length beside the raw one, and how much length pulls: log-odds for an answer one standard
    deviation longer than usual.
    """

    rate: Estimate
    raw: Estimate
    pull: float


def length_controlled(
    scores: Sequence[float],
    differences: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> LengthControlled:
    """Length-controlled win rate from `scores` (1 won, 0 lost, 1/2 tie) and treatment length less control length.

    The logistic model of AlpacaEval (Dubois, Galambosi, Liang & Hashimoto 2024, arXiv 2404.04475, section 3) with its
    term tanh(difference / standard deviation) and without its term of item difficulty, which one comparison cannot
    tell apart: the rate is the model's at no difference. Cluster-robust interval on the log-odds scale; half a win and
    half a loss at no difference keep it finite where one arm won all.
    """
    outcomes, gaps = np.asarray(scores, dtype=float), np.asarray(differences, dtype=float)
    if outcomes.shape != gaps.shape or outcomes.ndim != 1:
        raise InvalidInput("every score needs its difference of lengths", field="differences")
    if not ((outcomes >= 0.0) & (outcomes <= 1.0)).all():
        raise InvalidInput("scores must lie in [0, 1]", field="scores")
    raw = mean_estimate(scores, clusters, confidence)
    spread = float(gaps.std()) if gaps.size else 0.0
    shape = clustered_mean(outcomes, clusters)
    if shape.clusters < 3:
        return LengthControlled(Estimate(value=raw.value, low=0.0, high=1.0, n=raw.n), raw, 0.0)
    pulls = np.tanh(gaps / spread) if spread > 0.0 else np.zeros_like(gaps)
    columns = np.stack([np.ones(outcomes.size + 1), np.append(pulls, 0.0)], axis=1)
    ridge = np.array([0.0, RIDGE])
    known = np.append(outcomes, 0.5)
    names = [*(range(outcomes.size) if clusters is None else clusters), object()]
    found = fit_logistic(columns, known, ridge)
    error = math.sqrt(float(robust_covariance(columns, known, ridge, found, names)[0, 0]))
    # Unanimous votes leave the sandwich empty; a binomial's own error does not.
    share = 1.0 / (1.0 + math.exp(-float(found[0])))
    if np.all(outcomes == outcomes[0]):
        error = max(error, math.sqrt(shape.design_effect / (outcomes.size * share * (1.0 - share))))
    reach = student_quantile(0.5 + confidence / 2.0, max(1.0, shape.freedom - 1.0)) * error
    low, high = (1.0 / (1.0 + math.exp(-float(found[0]) - sign * reach)) for sign in (-1.0, 1.0))
    return LengthControlled(Estimate(value=share, low=low, high=high, n=raw.n), raw, float(found[1]))
