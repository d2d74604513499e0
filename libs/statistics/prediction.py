"""Expert votes helped by a judge's: a prediction-powered mean needs no faith in the judge, only his answers."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from libs.contracts.errors import InvalidInput
from libs.contracts.estimates import Estimate
from libs.statistics.clusters import clustered_mean
from libs.statistics.means import bounded_mean, mean_estimate
from libs.statistics.paired import paired_difference
from libs.statistics.special import student_quantile

CALIBRATION_ITEMS = 30
CORRELATION_FLOOR = 0.2
_UP, _DOWN = object(), object()


@dataclass(frozen=True, slots=True)
class PredictionPowered:
    """A mean of expert scores that used a judge's scores too.

    `trust` is the weight put on the judge, 0 to 1; `experts` what the expert votes alone say; `effective_labels` how
    many expert votes alone would be as precise.
    """

    estimate: Estimate
    experts: Estimate
    trust: float
    effective_labels: float


def prediction_powered(
    labels: Sequence[float],
    predictions: Sequence[float],
    others: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    other_clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> PredictionPowered:
    """Mean expert score in [0, 1] over all items, of which only some were labelled by experts, at random.

    PPI++ (Angelopoulos, Duchi & Zrnic 2023, arXiv 2311.01453, section 6 and example 6.1): the judge's mean over the
    `others`, corrected by his bias on the labelled items, with the weight that gives the least variance. The intervals
    of the two parts (libs.statistics.means, since a good judge's errors are rare) are added as those of independent
    means (MOVER; Zou & Donner 2008, Statistics in Medicine 27:1693); where the experts alone are as precise, as beside
    a useless judge, their own interval stands. No cluster may have items on both sides.
    """
    y, f, g = (np.asarray(values, dtype=float) for values in (labels, predictions, others))
    if y.shape != f.shape:
        raise InvalidInput("every labelled item needs the judge's score", field="predictions")
    for name, values in (("labels", y), ("predictions", f), ("others", g)):
        if not ((values >= 0.0) & (values <= 1.0)).all():
            raise InvalidInput("scores must lie in [0, 1]", field=name)
    experts = mean_estimate(labels, clusters, confidence)
    alone = clustered_mean(y, clusters)
    trust = _trust(y, f, g)
    if trust == 0.0 or alone.clusters < 4 or alone.standard_error == 0.0:
        return PredictionPowered(experts, experts, 0.0, float(y.size))
    corrected = bounded_mean((y - trust * f).tolist(), clusters, (-trust, 1.0)).interval(confidence)
    judged = bounded_mean((trust * g).tolist(), other_clusters, (0.0, trust)).interval(confidence)
    value = min(1.0, max(0.0, corrected.value + judged.value))
    low = value - math.hypot(corrected.value - corrected.low, judged.value - judged.low)
    high = value + math.hypot(corrected.high - corrected.value, judged.high - judged.value)
    if high - low >= experts.high - experts.low:
        return PredictionPowered(experts, experts, 0.0, float(y.size))
    estimate = Estimate(value=value, low=max(0.0, low), high=min(1.0, high), n=y.size + g.size)
    gain = (experts.high - experts.low) / (high - low)
    return PredictionPowered(estimate, experts, trust, y.size * gain * gain)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A judge measured against expert votes on the same items; `bias` is judge less experts, `same` how often both say
    the same. Agreement is not calibration: a judge may agree often and still favour one arm.
    """

    admitted: bool
    reason: str
    correlation: Estimate
    bias: Estimate
    same: Estimate
    n: int


def judge_calibration(
    votes: Sequence[float],
    judge: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    *,
    at_least: float = CORRELATION_FLOOR,
    confidence: float = 0.95,
) -> Calibration:
    """Whether a judge may count: on 30 items or more his scores must correlate with the experts' beyond `at_least`.

    Correlation and not bias decides, since bias is what `prediction_powered` removes while the correlation is all it
    gains from (arXiv 2311.01453, section 6). Its interval is cluster-robust on Fisher's scale, from the influence of
    each item (Devlin, Gnanadesikan & Kettenring 1975, Biometrika 62:531), no narrower than the normal theory's, and
    allows for a contradiction that was not seen.
    """
    y, f = np.asarray(votes, dtype=float), np.asarray(judge, dtype=float)
    bias = paired_difference(judge, votes, clusters).interval(confidence)
    same = mean_estimate([float(one) for one in np.round(y, 9) == np.round(f, 9)], clusters, confidence)
    correlation = _correlation(y, f, clusters, confidence)
    numbers = f"correlation {correlation.value:.2f} [{correlation.low:.2f}, {correlation.high:.2f}] on {y.size} items"
    if y.size < CALIBRATION_ITEMS:
        admitted, reason = False, f"fewer than {CALIBRATION_ITEMS} items judged by both: {numbers}"
    elif correlation.low > at_least:
        admitted, reason = True, f"{numbers}, above {at_least:g}"
    else:
        admitted, reason = False, f"{numbers}, not shown to exceed {at_least:g}"
    return Calibration(admitted, reason, correlation, bias, same, y.size)


def _trust(y: NDArray[np.float64], f: NDArray[np.float64], g: NDArray[np.float64]) -> float:
    if y.size < 4 or g.size < 2:
        return 0.0
    spread = float(np.concatenate([f, g]).var(ddof=1))
    if spread <= 1e-12:
        return 0.0
    covariance = float(np.sum((y - y.mean()) * (f - f.mean()))) / float(y.size - 1)
    return min(1.0, max(0.0, covariance / ((1.0 + len(y) / len(g)) * spread)))


def _correlation(
    y: NDArray[np.float64], f: NDArray[np.float64], clusters: Sequence[Hashable] | None, confidence: float
) -> Estimate:
    if y.size < 4 or np.ptp(y) == 0.0 or np.ptp(f) == 0.0:
        return Estimate(value=0.0, low=-1.0, high=1.0, n=y.size)
    names: list[Hashable] = list(range(y.size) if clusters is None else clusters)
    value, low, high = _fisher(y, f, names, confidence)
    # Half a pair each way on which the two contradict each other outright: the items twice, and both such pairs once.
    doubt = _fisher(
        np.append([1.0, 0.0], [y, y]), np.append([0.0, 1.0], [f, f]), [_UP, _DOWN, *names, *names], confidence
    )
    return Estimate(value=value, low=min(low, doubt[1]), high=high, n=y.size)


def _fisher(
    y: NDArray[np.float64], f: NDArray[np.float64], clusters: Sequence[Hashable], confidence: float
) -> tuple[float, float, float]:
    u, v = ((values - values.mean()) / values.std() for values in (y, f))
    value = min(1.0, max(-1.0, float((u * v).mean())))
    inside = min(0.9999, max(-0.9999, value))
    shape = clustered_mean((u * v - inside * (u * u + v * v) / 2.0) / (1.0 - inside * inside), clusters)
    if shape.clusters < 4:
        return value, -1.0, 1.0
    error = max(shape.standard_error, 1.0 / math.sqrt(shape.clusters - 3))
    reach = student_quantile(0.5 + confidence / 2.0, max(1.0, shape.freedom - 1.0)) * error
    low, high = (math.tanh(math.atanh(inside) + side * reach) for side in (-1.0, 1.0))
    return value, min(value, low), max(value, high)
