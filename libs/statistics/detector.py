"""A drop detector that may watch for ever: the mean time between its false alarms is bounded from below."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from libs.contracts.errors import InvalidInput
from libs.statistics.evidence import log_mean

STAKES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 0.95)
"""Fractions of the largest stake that cannot ruin the gambler; evidence is the mean over all of them."""


@dataclass(frozen=True, slots=True)
class DetectorState:
    """All a detector knows: log capital and units since the last restart for every stake, units seen, first alarm."""

    logs: tuple[float, ...]
    ages: tuple[int, ...]
    seen: int
    alarm_at: int | None


class DropDetector:
    """Alarm when the mean of scores in [0, 1] has dropped below `floor`.

    The CUSUM e-detector of Shin, Ramdas & Rinaldo (2024, New England Journal of Statistics in Data Science 2:229, arXiv
    2203.03532, sections 2 and 4): capital staked on scores below the floor restarts whenever it has fallen under 1, and
    the alarm sounds at `run_length`. While every score's conditional mean is at least the floor, whatever the
    distribution, the expected number of units to a false alarm is at least `run_length`. A unit is a closed
    user-window, not a request. A deterministic function of the sequence: replaying it gives the same state.
    """

    __slots__ = ("_ages", "_alarm_at", "_floor", "_logs", "_seen", "threshold")

    def __init__(self, floor: float, run_length: float, state: DetectorState | None = None) -> None:
        if not 0.0 < floor < 1.0:
            raise InvalidInput(f"a floor of {floor} cannot be dropped below or kept", field="floor")
        if run_length <= 1.0:
            raise InvalidInput("the time between false alarms is more than one unit", field="run_length")
        self._floor = floor
        self.threshold = math.log(run_length)
        """Log evidence at which the alarm sounds."""
        self._logs = list(state.logs) if state else [0.0] * len(STAKES)
        self._ages = list(state.ages) if state else [0] * len(STAKES)
        self._seen = state.seen if state else 0
        self._alarm_at = state.alarm_at if state else None

    def update(self, score: float) -> bool:
        """Take in the score of one unit; True once the alarm has sounded."""
        if not 0.0 <= score <= 1.0:
            raise InvalidInput(f"the score {score} must lie in [0, 1]", field="score")
        self._seen += 1
        for index, stake in enumerate(STAKES):
            if self._logs[index] <= 0.0:
                self._logs[index], self._ages[index] = 0.0, 0
            self._logs[index] += math.log1p(stake / (1.0 - self._floor) * (self._floor - score))
            self._ages[index] += 1
        if self._alarm_at is None and self.log_evidence >= self.threshold:
            self._alarm_at = self._seen
        return self._alarm_at is not None

    def extend(self, scores: Sequence[float]) -> bool:
        """Take in several units in order."""
        for score in scores:
            self.update(score)
        return self._alarm_at is not None

    @property
    def log_evidence(self) -> float:
        """Log evidence of a drop now."""
        return log_mean(self._logs)

    @property
    def alarm_at(self) -> int | None:
        """Number of the unit at which the alarm first sounded."""
        return self._alarm_at

    @property
    def since(self) -> int:
        """Units since the likeliest moment of the drop: the age of the capital that has grown most."""
        return self._ages[max(range(len(STAKES)), key=self._logs.__getitem__)]

    @property
    def state(self) -> DetectorState:
        """What to keep so that another detector goes on from here."""
        return DetectorState(tuple(self._logs), tuple(self._ages), self._seen, self._alarm_at)
