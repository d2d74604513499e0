"""Says when production got worse: replays closed user-windows through the detector, with dwell and cooldown.

Everything here follows from the sequence of windows alone, so that a drop that was told can be found again.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from libs.contracts.task import DropSpec
from libs.statistics.detector import DropDetector
from libs.statistics.evidence import plain
from libs.statistics.proportions import wilson

_LOWEST, _HIGHEST = 0.02, 0.98


@dataclass(frozen=True, slots=True)
class UserWindow:
    """One user's closed window under a stable version; `number` rises by one per task, `ended_at` is its end."""

    number: int
    version: int
    ended_at: float
    good: bool


@dataclass(frozen=True, slots=True)
class Drop:
    """An alarm that held: the evidence at `last_window`, since the likely change at `first_window`."""

    version: int
    floor: float
    satisfaction: float
    e_value: float
    needed: float
    users: int
    first_window: int
    last_window: int
    at: float


@dataclass(frozen=True, slots=True)
class DropState:
    """How the watch stands, for whoever looks at it. `floor` is None while the reference is still being learnt."""

    floor: float | None
    reference: int
    users: int
    e_value: float
    needed: float
    pending_since: float | None


class DropWatch:
    """The detector over the windows of one task; give it every window once, in order of `number`.

    A new stable version begins anew: its first `reference_users` windows say what is normal where the task names no
    floor. An alarm is told once it has held for `dwell_seconds` of window time; then the watch begins anew after
    `cooldown_seconds`, with the same floor.
    """

    def __init__(self, spec: DropSpec, reference_users: int) -> None:
        self._spec = spec
        self._reference_users = reference_users
        self._version: int | None = None
        self._rest_until = -math.inf
        self._floor: float | None = None
        self._reference: list[bool] = []
        self._seen: list[UserWindow] = []
        self._pending: float | None = None
        self._detector = self._fresh()

    def take(self, window: UserWindow) -> Drop | None:
        """Take in one window; a drop when this one makes it known."""
        if window.version != self._version:
            self._version = window.version
            self._begin(self._spec.floor)
        if self._floor is None:
            self._learn(window)
            return None
        if window.ended_at < self._rest_until:
            return None
        self._seen.append(window)
        self._detector.update(float(window.good))
        if self._detector.log_evidence < self._detector.threshold:
            self._pending = None
            return None
        self._pending = window.ended_at if self._pending is None else self._pending
        if window.ended_at - self._pending < self._spec.dwell_seconds:
            return None
        return self._told(window)

    def extend(self, windows: Iterable[UserWindow]) -> list[Drop]:
        """Take in several; the drops among them."""
        return [drop for window in windows if (drop := self.take(window)) is not None]

    @property
    def state(self) -> DropState:
        """How the watch stands."""
        return DropState(
            self._floor, len(self._reference), len(self._seen), plain(self._detector.log_evidence),
            self._spec.run_length, self._pending,
        )  # fmt: skip

    def _begin(self, floor: float | None) -> None:
        self._floor = floor
        self._reference = []
        self._restart()

    def _restart(self) -> None:
        self._seen = []
        self._pending = None
        self._detector = self._fresh()

    def _fresh(self) -> DropDetector:
        return DropDetector(self._floor if self._floor is not None else 0.5, self._spec.run_length)

    def _learn(self, window: UserWindow) -> None:
        self._reference.append(window.good)
        if len(self._reference) < self._reference_users:
            return
        # The lower end of what the reference may have been: a lucky start must not make the usual look like a drop.
        usual = wilson(sum(self._reference), len(self._reference)).low
        self._floor = min(max(usual - self._spec.margin, _LOWEST), _HIGHEST)
        self._restart()

    def _told(self, window: UserWindow) -> Drop:
        assert self._floor is not None  # the detector runs on one only
        since = self._seen[-min(len(self._seen), max(1, self._detector.since)) :]
        drop = Drop(
            version=window.version, floor=self._floor, satisfaction=sum(each.good for each in since) / len(since),
            e_value=plain(self._detector.log_evidence), needed=self._spec.run_length, users=len(since),
            first_window=since[0].number, last_window=window.number, at=window.ended_at,
        )  # fmt: skip
        self._rest_until = window.ended_at + self._spec.cooldown_seconds
        self._restart()
        return drop


def recheck(
    document: Mapping[str, Any], spec: DropSpec | None, reference_users: int, windows: Sequence[UserWindow]
) -> list[str]:
    """Where a drop that was told differs from what its windows show when they are replayed; empty when it is equal."""
    if spec is None:
        return ["the task asked for no drops then"]
    found = DropWatch(spec, reference_users).extend(windows)
    if not found or found[-1].last_window != document["last_window"]:
        return [f"no drop is shown at user-window {document['last_window']}"]
    drop = found[-1]
    names = ("version", "floor", "satisfaction", "e_value", "needed", "users", "first_window", "last_window")
    return [
        f"{name}: published {document[name]!r}, recomputed {getattr(drop, name)!r}"
        for name in names
        if not math.isclose(document[name], getattr(drop, name), rel_tol=1e-9)
    ]
