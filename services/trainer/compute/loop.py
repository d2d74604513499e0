"""The training loop: steps in the plan's order; validation, samples, checkpoints and progress on the way."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from libs.contracts.errors import FailedPrecondition
from libs.contracts.task import Training
from services.trainer.compute import checkpoint
from services.trainer.compute.checkpoint import Position
from services.trainer.compute.machine import Machine, peak_memory_bytes
from services.trainer.compute.stepper import Stepper
from services.trainer.compute.validation import Validation
from services.trainer.domain.plan import Plan
from services.trainer.domain.protocol import Progress, Sample, Sampled, Saved
from services.trainer.domain.watch import Divergence

_REPORT_SECONDS = 0.25
_WINDOW_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Eyes:
    """What looks at a run from beside it; either may be missing."""

    validation: Validation | None
    sample: Callable[[], list[Sample]] | None


class Loop:
    """One attempt at a run, from `position` to the end of the plan or until `stop` says so.

    Args:
        stepper: Takes the steps.
        plan: Batches and learning rates of all steps.
        recipe: Of the task.
        checkpoints: Directory to write checkpoints to.
        eyes: Validation and samples.
        flops_share: Of the device's peak, for one token per second.
        say: Told progress, samples and checkpoints.
        stop: Asked after every step.
    """

    def __init__(
        self,
        stepper: Stepper,
        plan: Plan,
        recipe: Training,
        *,
        checkpoints: Path,
        eyes: Eyes,
        flops_share: float,
        say: Callable[[Progress | Saved | Sampled], None],
        stop: Callable[[], bool],
    ) -> None:
        self._stepper = stepper
        self._plan = plan
        self._recipe = recipe
        self._checkpoints = checkpoints
        self._eyes = eyes
        self._flops_share = flops_share
        self._say = say
        self._stop = stop
        self._curve: list[tuple[int, float]] = []
        self._validation: list[tuple[int, float]] = []
        self._divergence = Divergence()
        self._seconds_before = 0.0
        self._began = time.monotonic()
        self._saved_at = 0
        self.step = 0

    @property
    def position(self) -> Position:
        """Where the run stands now."""
        seconds = self._seconds_before + time.monotonic() - self._began
        held = self._eyes.validation
        return Position(
            self.step, self._plan.digest, round(seconds, 3), tuple(self._curve), tuple(self._validation),
            self._stepper.split, held.best if held else {},
        )  # fmt: skip

    def resume(self, directory: Path) -> None:
        """Go on from a checkpoint, with everything the run had seen by then."""
        held = checkpoint.read(directory, self._stepper.learner, self._stepper.optimizer, self._plan.digest)
        self.step = self._saved_at = held.step
        self._curve = list(held.curve)
        self._validation = list(held.validation)
        self._seconds_before = held.seconds
        self._stepper.split = max(self._stepper.split, held.split)
        for _, loss in self._curve:
            self._divergence.add(loss)
        if self._eyes.validation is not None:
            self._eyes.validation.best = held.best
            for at, loss in self._validation:
                self._eyes.validation.patience.add(at, loss)

    def run(self) -> bool:
        """Train; True at the end of the plan or of the patience, False when stopped (a checkpoint is written then).

        Raises FailedPrecondition (NAN_LOSS, DIVERGED) naming the rows of the batch.
        """
        total = self._plan.total_steps
        self._began = window_began = reported = time.monotonic()
        window_tokens, window_steps = 0, 0
        while self.step < total and not self._learned():
            micro = self._plan.steps[self.step]
            loss = self._one_step(micro)
            window_tokens += sum(self._stepper.items[row].length for batch in micro for row in batch)
            window_steps += 1
            now = time.monotonic()
            if now - reported >= _REPORT_SECONDS or self.step in (1, total):
                spent = max(now - window_began, 1e-6)
                self._say(self._progress(loss, window_tokens / spent, (total - self.step) * spent / window_steps))
                reported = now
                if spent > _WINDOW_SECONDS:
                    window_began, window_tokens, window_steps = now, 0, 0
            self._look()
            stopping = self._stepper.group.any(self._stop())
            if stopping or self.step % self._recipe.checkpoint_steps == 0 or self.step == total or self._learned():
                self._save()
            if stopping and self.step < total:
                return False
        return True

    def _one_step(self, micro: tuple[tuple[int, ...], ...]) -> float:
        loss = self._stepper.take(self.step + 1, micro, self._plan.learning_rates[self.step])
        self.step += 1
        self._curve.append((self.step, round(loss, 6)))
        if self._divergence.add(loss):
            raise FailedPrecondition(
                f"the loss ran away: {self._divergence.smoothed:.3g} (smoothed) at step {self.step}, after it had been "
                f"{self._divergence.least:.3g}; rows of the last batch: {self._stepper.named(micro)}; lower "
                "recipe.learning_rate or look at these rows",
                reason="DIVERGED", field="recipe.learning_rate",
            )  # fmt: skip
        return loss

    def _look(self) -> None:
        every = self._recipe.validation.every_steps
        if self._eyes.validation is not None and self._due(every):
            loss = self._eyes.validation.see(self._stepper.learner, self.step)
            self._validation.append((self.step, loss))
        samples = self._recipe.samples
        if self._eyes.sample is not None and self._due(samples.every_steps if samples else None):
            self._say(Sampled(step=self.step, samples=tuple(self._eyes.sample())))

    def _due(self, every: int | None) -> bool:
        return self.step == self._plan.total_steps or (every is not None and self.step % every == 0)

    def _learned(self) -> bool:
        return self._eyes.validation is not None and self._eyes.validation.patience.exhausted

    def _save(self) -> None:
        if self._saved_at == self.step:
            return
        path = checkpoint.write(self._checkpoints, self._stepper.learner, self._stepper.optimizer, self.position)
        self._saved_at = self.step
        if path is not None:
            self._say(Saved(step=self.step, path=str(path)))

    def _progress(self, loss: float, tokens_per_second: float, eta: float) -> Progress:
        machine: Machine = self._stepper.learner.machine
        return Progress(
            step=self.step,
            total_steps=self._plan.total_steps,
            loss=loss,
            learning_rate=self._plan.learning_rates[self.step - 1],
            tokens_per_second=round(tokens_per_second, 1),
            eta_seconds=round(eta, 2),
            peak_memory_bytes=peak_memory_bytes(machine),
            mfu=round(tokens_per_second * self._flops_share, 4),
            validation_loss=self._validation[-1][1] if self._validation else None,
        )
