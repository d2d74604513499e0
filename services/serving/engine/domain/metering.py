"""What one request cost: its part of the time in which the engine worked, shared with those that ran beside it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Share:
    """The seconds of one request so far."""

    _meter: "Meter"
    _began: float

    @property
    def seconds(self) -> float:
        """Its part of the engine's busy time since it came."""
        return self._meter.advanced() - self._began


@dataclass(slots=True)
class Meter:
    """Busy time divided evenly among the requests that run: processor sharing (Kleinrock, 1967).

    The sum over all requests is the time in which at least one ran, so that nothing is charged twice; idle time is
    nobody's. `advanced` is the seconds that a request running all along would have been charged.
    """

    clock: Callable[[], float] = time.monotonic
    _running: int = 0
    _advanced: float = 0.0
    _at: float = field(default=0.0)

    @property
    def running(self) -> int:
        """Requests under way."""
        return self._running

    def advanced(self) -> float:
        """Bring the account up to now."""
        now = self.clock()
        if self._running:
            self._advanced += (now - self._at) / self._running
        self._at = now
        return self._advanced

    @contextmanager
    def run(self) -> Iterator[Share]:
        """Account for one request while it runs."""
        share = Share(self, self.advanced())
        self._running += 1
        try:
            yield share
        finally:
            self.advanced()
            self._running -= 1
