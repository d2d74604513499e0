"""When a run has gone wrong, and when it has learned what it can: rules over its losses."""

from dataclasses import dataclass

_SETTLED_STEPS = 20
_SMOOTHING = 0.9
_BLOWN_UP = 3.0


@dataclass(slots=True)
class Divergence:
    """Whether the loss runs away: its smoothed value above three times its least and above where it began.

    Losses that go down and then back to the start are a learning rate too high; a noisy step is not.
    """

    steps: int = 0
    smoothed: float = 0.0
    began: float = 0.0
    least: float = float("inf")

    def add(self, loss: float) -> bool:
        """Take in the loss of a step; True when the run has diverged."""
        self.steps += 1
        self.smoothed = loss if self.steps == 1 else _SMOOTHING * self.smoothed + (1 - _SMOOTHING) * loss
        if self.steps == _SETTLED_STEPS:
            self.began = self.smoothed
        if self.steps < _SETTLED_STEPS:
            return False
        self.least = min(self.least, self.smoothed)
        return self.smoothed > _BLOWN_UP * max(self.least, 1e-3) and self.smoothed > self.began > 0


@dataclass(slots=True)
class Patience:
    """The best validation loss so far, and how many measurements have gone by without a better one."""

    allowed: int | None
    min_delta: float = 0.0
    best: float = float("inf")
    best_step: int = 0
    waited: int = 0

    def add(self, step: int, loss: float) -> bool:
        """Take in a measurement; True when it is the best so far."""
        if loss < self.best - self.min_delta:
            self.best, self.best_step, self.waited = loss, step, 0
            return True
        self.waited += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether the run should end."""
        return self.allowed is not None and self.waited >= self.allowed


def pieces(batch: tuple[int, ...], split: int) -> list[tuple[int, ...]]:
    """A batch of item positions cut into at most `split` parts of nearly the same size, in order."""
    size = -(-len(batch) // split)
    return [batch[at : at + size] for at in range(0, len(batch), size)]
