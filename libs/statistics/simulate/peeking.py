"""How often evidence looked at after every observation raises a false alarm, and how soon a true one."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from libs.statistics.bounded import BETS
from libs.statistics.detector import STAKES
from libs.statistics.harm import RELATIVE_RISKS
from libs.statistics.votes import log_evidence_wins

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Alarms:
    """Share of runs with an alarm, and the median number of observations to it over all runs (inf: most had none)."""

    rate: float
    median: float
    runs: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests with an experiment on them. `drift`: the base rate of failure swings by 80 % of itself; `ramp`: the
    challenger's share rises to 25 % and then 50 % on the way.
    """

    share: float = 0.05
    base: float = 0.02
    risk: float = 1.0
    drift: bool = False
    ramp: bool = False


def canary(traffic: Traffic, *, alpha: float, challengers: int, runs: int, seed: int) -> Alarms:
    """Rollbacks by libs.statistics.harm looked at after every bad request, until `challengers` requests of the
    challenger; the median is in those. The same arithmetic as HarmProcess, over all runs at once.
    """
    risks = np.array(RELATIVE_RISKS)
    logs = np.zeros((runs, risks.size))
    needed = math.log(risks.size / alpha)

    def take(came: NDArray[np.bool_], share: Array) -> NDArray[np.bool_]:
        nonlocal logs
        theta = share[:, None] * risks / (share[:, None] * risks + 1.0 - share[:, None])
        logs += np.where(came[:, None], np.log(theta / share[:, None]), np.log((1.0 - theta) / (1.0 - share[:, None])))
        alarm: NDArray[np.bool_] = np.logaddexp.reduce(logs, axis=1) >= needed
        return alarm

    return _bad_requests(traffic, take, challengers, runs, seed)


def canary_by_z_test(traffic: Traffic, *, alpha: float, challengers: int, runs: int, seed: int) -> Alarms:
    """The same traffic judged after every bad request by the one-sided z-test on the challenger's part of all bad ones
    (from about ten on): a sound test for one look.
    """
    state = np.zeros((3, runs))
    needed = -_normal_quantile(alpha)

    def take(came: NDArray[np.bool_], share: Array) -> NDArray[np.bool_]:
        state[:] += np.stack([came, share, share * (1.0 - share)])
        seen, expected, variance = state
        alarm: NDArray[np.bool_] = (expected >= 10.0 * share) & (seen - expected >= needed * np.sqrt(variance))
        return alarm

    return _bad_requests(traffic, take, challengers, runs, seed)


def votes_peeked(share: float, *, alpha: float, looks: int, runs: int, seed: int) -> Alarms:
    """Verdicts "more than half" by libs.statistics.votes, looked at after each of `looks` decisive votes."""
    fewest = np.full(looks, looks + 1)
    wins = 0
    for n in range(1, looks + 1):
        # The fewest wins that suffice never falls as votes come in.
        while wins <= n and log_evidence_wins(wins, n - wins) < -math.log(alpha):
            wins += 1
        if wins <= n:
            fewest[n - 1] = wins
    return _first(_walk(share, looks, runs, seed) >= fewest)


def votes_by_z_test(share: float, *, alpha: float, looks: int, runs: int, seed: int) -> Alarms:
    """The same votes judged each time by the two-sided z-test, from ten votes on."""
    n = np.arange(1, looks + 1)
    z = (_walk(share, looks, runs, seed) - n / 2.0) / np.sqrt(n / 4.0)
    return _first((np.abs(z) >= -_normal_quantile(alpha / 2.0)) & (n >= 10))


def means_peeked(win: float, loss: float, bound: float, *, alpha: float, looks: int, runs: int, seed: int) -> Alarms:
    """Claims "the mean exceeds `bound`" by libs.statistics.bounded on scores of 1, -1 and 0, looked at after each: the
    same arithmetic as log_evidence_above.
    """
    rng = np.random.default_rng(seed)
    bets = np.array(BETS) / (1.0 + max(0.0, bound))
    by_score = [np.log1p(bets * (score - bound)) for score in (1.0, -1.0, 0.0)]
    logs = np.zeros((runs, bets.size))
    stop = np.full(runs, np.inf)
    needed = math.log(bets.size / alpha)
    for look in range(1, looks + 1):
        u = rng.random(runs)[:, None]
        logs += np.where(u < win, by_score[0], np.where(u < win + loss, by_score[1], by_score[2]))
        alarm = np.isinf(stop) & (np.logaddexp.reduce(logs, axis=1) >= needed)
        stop[alarm] = look
    return Alarms(float(np.isfinite(stop).mean()), float(np.median(stop)), runs)


def drops(
    floor: float, run_length: float, before: float, after: float, *, change: int, until: int, runs: int, seed: int
) -> tuple[float, float]:
    """Mean units to the alarm of libs.statistics.detector (cut off at `until`), and the median delay of alarms after
    the `change`. Units are good with probability `before` and then `after`; the same arithmetic as DropDetector.
    """
    rng = np.random.default_rng(seed)
    stakes = np.array(STAKES) / (1.0 - floor)
    good, bad = np.log1p(stakes * (floor - 1.0)), np.log1p(stakes * floor)
    logs = np.zeros((runs, stakes.size))
    stop = np.full(runs, float(until))
    waiting: NDArray[np.bool_] = np.ones(runs, dtype=bool)
    needed = math.log(run_length * stakes.size)
    for unit in range(1, until + 1):
        won = rng.random(runs) < (before if unit <= change else after)
        logs = np.maximum(logs, 0.0) + np.where(won[:, None], good, bad)
        alarm = waiting & (np.logaddexp.reduce(logs, axis=1) >= needed)
        stop[alarm] = unit
        waiting &= ~alarm
        if not waiting.any():
            break
    late = stop[(stop > change) & ~waiting]
    return float(stop.mean()), float(np.median(late - change)) if late.size else math.inf


def _bad_requests(
    traffic: Traffic,
    take: Callable[[NDArray[np.bool_], Array], NDArray[np.bool_]],
    challengers: int,
    runs: int,
    seed: int,
) -> Alarms:
    """From one bad request to the next: the harmless ones between them are drawn by their number alone."""
    rng = np.random.default_rng(seed)
    served, requests = np.zeros(runs), np.zeros(runs)
    stop = np.full(runs, np.inf)
    while bool(((served < challengers) & np.isinf(stop)).any()):
        share = np.full(runs, traffic.share)
        if traffic.ramp:
            share = np.where(served < challengers / 3, share, np.where(served < 2 * challengers / 3, 0.25, 0.5))
        base = np.full(runs, traffic.base)
        if traffic.drift:
            base = base * (1.0 + 0.8 * np.sin(requests / 2000.0))
        ours, theirs = share * np.minimum(1.0, base * traffic.risk), (1.0 - share) * base
        gap = rng.geometric(ours + theirs)
        came = rng.random(runs) < ours / (ours + theirs)
        served += rng.binomial(gap - 1, (share - ours) / (1.0 - ours - theirs)) + came
        requests += gap
        alarm = take(came, share) & np.isinf(stop) & (served <= challengers)
        stop[alarm] = served[alarm]
    return Alarms(float(np.isfinite(stop).mean()), float(np.median(stop)), runs)


def _walk(share: float, looks: int, runs: int, seed: int) -> NDArray[np.int64]:
    wins: NDArray[np.int64] = (np.random.default_rng(seed).random((runs, looks)) < share).cumsum(axis=1)
    return wins


def _first(alarms: NDArray[np.bool_]) -> Alarms:
    ever = alarms.any(axis=1)
    stop = np.where(ever, alarms.argmax(axis=1) + 1.0, np.inf)
    return Alarms(float(ever.mean()), float(np.median(stop)), int(ever.size))


def _normal_quantile(probability: float) -> float:
    return NormalDist().inv_cdf(probability)
