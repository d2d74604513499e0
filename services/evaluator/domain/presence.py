"""Whether users are there, and how many answers an evaluation may then want at once."""

YIELD_TO = 4
"""Beside users an evaluation wants one in so many of its answers at once: what runs in one batch is felt by all."""
LEAST = 16
"""So few are hardly felt, and fewer would make an evaluation last for ever."""
STAYS_SECONDS = 10.0
"""Users are held to be there for so long after their last request."""


class Presence:
    """When a user was last answered, in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._seen = float("-inf")

    def note(self, now: float) -> None:
        """A user was answered."""
        self._seen = max(self._seen, now)

    def here(self, now: float) -> bool:
        """Whether users are to be reckoned with."""
        return now - self._seen < STAYS_SECONDS

    def allowed(self, concurrency: int, now: float) -> int:
        """Answers that an evaluation of that concurrency may want at once."""
        return max(min(LEAST, concurrency), concurrency // YIELD_TO) if self.here(now) else concurrency
