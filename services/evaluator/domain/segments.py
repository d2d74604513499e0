"""Harm to one segment of users, which a whole that is fine would hide."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from libs.contracts.estimates import Verdict
from libs.contracts.events import SegmentEvidence
from libs.contracts.inference import Role
from libs.contracts.task import CanarySpec
from libs.statistics.evidence import plain
from libs.statistics.harm import HarmProcess

MOST = 32
"""Segments judged by themselves; the budget of any further one would be too small to show anything."""
BUDGET = 0.2
"""Of a canary's alpha, for all segments together; the rest is the whole's, so that a harmless one is rolled back for
whatever reason no more often than alpha."""


@dataclass(frozen=True, slots=True)
class ClosedWindow:
    """A user-window that closed bad: who had it, in which segment (empty: none was named), and how likely that was the
    challenger when it was assigned.
    """

    unit: str
    role: Role
    rho: float
    segment: str = ""


@dataclass(frozen=True, slots=True)
class SegmentTally:
    """Closed windows of the stage under watch in one segment, by role."""

    windows: dict[str, int] = field(default_factory=dict)
    bad_windows: dict[str, int] = field(default_factory=dict)


def judge_segments(
    canary: CanarySpec, bad: Iterable[ClosedWindow], tallies: Mapping[str, SegmentTally]
) -> dict[str, SegmentEvidence]:
    """Harm shown in each segment, by bad windows of the whole turn in the order in which they were closed.

    Nobody knows beforehand which segments there will be, so that the budget is spent by the order in which they first
    had a bad window: the k-th gets its part, 1 / (k (k + 1)), of what is for segments.
    Which arm that window had is a toss of the coin that the order does not hang on, so each part holds at any look.
    """
    processes: dict[str, HarmProcess] = {}
    seen: set[tuple[str, str]] = set()
    for window in bad:
        if not window.segment or (window.segment, window.unit) in seen:
            continue
        if window.segment not in processes and len(processes) == MOST:
            continue
        seen.add((window.segment, window.unit))
        process = processes.setdefault(window.segment, HarmProcess(canary.harm_ratio))
        process.update(window.role is Role.CANARY, window.rho)
    return {
        name: _judged(process, BUDGET * canary.alpha / (place * (place + 1)), tallies.get(name, SegmentTally()))
        for place, (name, process) in enumerate(processes.items(), start=1)
    }


def _judged(process: HarmProcess, alpha: float, tally: SegmentTally) -> SegmentEvidence:
    harmful = process.peak >= math.log(1.0 / alpha)
    told, closed = tally.bad_windows, tally.windows
    reason = (
        f"{told.get(Role.CANARY, 0)} of {closed.get(Role.CANARY, 0)} canary windows and "
        f"{told.get(Role.STABLE, 0)} of {closed.get(Role.STABLE, 0)} stable windows were bad; evidence of harm "
        f"{plain(process.peak):.3g} at its highest, from {process.bad} users; needed {1.0 / alpha:.3g}"
    )
    return SegmentEvidence(
        verdict=Verdict.FAIL if harmful else Verdict.INCONCLUSIVE,
        reason=reason,
        e_value=plain(process.peak),
        alpha=alpha,
        windows=closed,
        bad_windows=told,
    )
