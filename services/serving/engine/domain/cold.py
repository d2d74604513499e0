"""Versions beyond what memory holds: who makes room for one that is asked for, and how often that may happen."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from libs.contracts.errors import Busy
from libs.contracts.inference import Role

_MINUTE = 60.0
_UNUSED_FIRST = frozenset({Role.CANDIDATE, Role.SHADOW})


@dataclass(frozen=True, slots=True)
class Occupant:
    """A version in memory. `used_at` is when a request last used it, on a monotonic clock."""

    digest: str
    role: Role
    pinned: bool
    idle: bool
    used_at: float


def who_leaves(held: Iterable[Occupant]) -> str | None:
    """The digest of the version that leaves for another one; None where every one is pinned or in use.

    Candidates and shadows have no users and go first; among equals the one that was not used for longest.
    """
    able = [each for each in held if each.idle and not each.pinned]
    chosen = min(able, key=lambda each: (each.role not in _UNUSED_FIRST, each.used_at, each.digest), default=None)
    return chosen.digest if chosen is not None else None


@dataclass(slots=True)
class ColdBudget:
    """At most so many loads on request in any minute: each one holds everybody's tokens up for a moment."""

    per_minute: int
    _at: deque[float] = field(default_factory=deque)

    def spend(self, now: float) -> None:
        """Count one. Raises Busy, with `retry_after` in seconds, where the minute's loads are used up."""
        while self._at and now - self._at[0] >= _MINUTE:
            self._at.popleft()
        if len(self._at) >= self.per_minute:
            wait = max(1, round(self._at[0] + _MINUTE - now)) if self._at else round(_MINUTE)
            raise Busy(
                f"{self.per_minute} adapters were loaded on request within a minute", reason="COLD_LOADS",
                retry_after=wait,
            )  # fmt: skip
        self._at.append(now)
