"""The training loop: forward, backward, clip, step; checkpoints and progress on the way."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from libs.contracts.errors import FailedPrecondition
from libs.contracts.task import RecipeSpec
from services.trainer.compute import checkpoint
from services.trainer.compute.checkpoint import Position
from services.trainer.compute.examples import Example
from services.trainer.compute.machine import peak_memory_bytes
from services.trainer.compute.model import Batch, Learner, collate
from services.trainer.domain.plan import Plan
from services.trainer.domain.protocol import Progress, Saved

_CLIP = 1.0
_REPORT_SECONDS = 0.25
_NAMED_ROWS = 8


def make_optimizer(learner: Learner, recipe: RecipeSpec) -> torch.optim.AdamW:
    """AdamW without weight decay over the adapter (Loshchilov and Hutter, 2019), one fused kernel per step."""
    weights = [weight for _, weight in learner.trainable()]
    return torch.optim.AdamW(weights, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)


class Loop:
    """One attempt at a run, from `position` to the end of the plan or until `stop` says so.

    Args:
        learner: Base with LoRA.
        examples: Rows; the plan's positions point into them.
        plan: Batches and learning rates of all steps.
        recipe: Of the task.
        checkpoints: Directory to write checkpoints to.
        pad: Token id for padding.
        say: Told progress and checkpoints.
        stop: Asked after every step.
    """

    def __init__(
        self,
        learner: Learner,
        examples: Sequence[Example],
        plan: Plan,
        recipe: RecipeSpec,
        *,
        checkpoints: Path,
        pad: int,
        say: Callable[[Progress | Saved], None],
        stop: Callable[[], bool],
    ) -> None:
        self._learner = learner
        self._examples = examples
        self._plan = plan
        self._recipe = recipe
        self._checkpoints = checkpoints
        self._pad = pad
        self._say = say
        self._stop = stop
        self._optimizer = make_optimizer(learner, recipe)
        self._curve: list[tuple[int, float]] = []
        self._seconds_before = 0.0
        self._began = time.monotonic()
        self._saved_at = 0
        self.step = 0

    @property
    def position(self) -> Position:
        """Where the run stands now."""
        seconds = self._seconds_before + time.monotonic() - self._began
        return Position(self.step, self._plan.digest, round(seconds, 3), tuple(self._curve))

    def resume(self, directory: Path) -> None:
        """Go on from a checkpoint."""
        held = checkpoint.read(directory, self._learner, self._optimizer, self._plan.digest)
        self.step = self._saved_at = held.step
        self._curve = list(held.curve)
        self._seconds_before = held.seconds

    def run(self) -> bool:
        """Train; True at the end of the plan, False when stopped (a checkpoint is written then).

        Raises FailedPrecondition (NAN_LOSS) naming the rows of the batch.
        """
        total = self._plan.total_steps
        self._began = window_began = reported = time.monotonic()
        window_tokens, window_steps = 0, 0
        while self.step < total:
            micro = self._plan.steps[self.step]
            loss = self._one_step(micro)
            self.step += 1
            self._curve.append((self.step, round(loss, 6)))
            window_tokens += sum(len(self._examples[row].tokens) for batch in micro for row in batch)
            window_steps += 1
            now = time.monotonic()
            if now - reported >= _REPORT_SECONDS or self.step in (1, total):
                spent = max(now - window_began, 1e-6)
                self._say(self._progress(loss, window_tokens / spent, (total - self.step) * spent / window_steps))
                reported = now
                if spent > 2.0:
                    window_began, window_tokens, window_steps = now, 0, 0
            stopping = self._stop()
            if stopping or self.step % self._recipe.checkpoint_steps == 0 or self.step == total:
                self._save()
            if stopping and self.step < total:
                return False
        return True

    def _one_step(self, micro: Sequence[Sequence[int]]) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = self._plan.learning_rates[self.step]
        if self._recipe.dropout:
            # The state of the generator is then a function of seed and step, and a resumed run draws the same.
            torch.manual_seed(self._recipe.seed * 1_000_003 + self.step)
        batches = [self._batch(rows) for rows in micro]
        trained = sum(len(batch.targets) for batch in batches)
        total = 0.0
        for batch in batches:
            # The mean is over the tokens of the whole step, so accumulation does not change what is learned.
            loss = self._learner.loss(batch) / trained
            loss.backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_([weight for _, weight in self._learner.trainable()], _CLIP)
        if not (total == total and abs(total) != float("inf")) or not torch.isfinite(norm):
            ids = [self._examples[row].row_id for rows in micro for row in rows]
            more = f" and {len(ids) - _NAMED_ROWS} more" if len(ids) > _NAMED_ROWS else ""
            raise FailedPrecondition(
                f"loss is {total:g} and the gradient norm {float(norm):g} at step {self.step + 1}; rows of the batch: "
                f"{', '.join(ids[:_NAMED_ROWS])}{more}; lower recipe.learning_rate or look at these rows",
                reason="NAN_LOSS",
            )
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return total

    def _batch(self, rows: Sequence[int]) -> Batch:
        chosen = [(self._examples[row].tokens, self._examples[row].trained) for row in rows]
        return collate(chosen, self._pad, self._learner.machine.device)

    def first_batch(self) -> Batch:
        """The batch of the first step to come."""
        return self._batch(self._plan.steps[min(self.step, self._plan.total_steps - 1)][0])

    def _save(self) -> None:
        if self._saved_at == self.step:
            return
        path = checkpoint.write(self._checkpoints, self._learner, self._optimizer, self.position)
        self._saved_at = self.step
        self._say(Saved(step=self.step, path=str(path)))

    def _progress(self, loss: float, tokens_per_second: float, eta: float) -> Progress:
        return Progress(
            step=self.step,
            total_steps=self._plan.total_steps,
            loss=loss,
            learning_rate=self._plan.learning_rates[self.step - 1],
            tokens_per_second=round(tokens_per_second, 1),
            eta_seconds=round(eta, 2),
            peak_memory_bytes=peak_memory_bytes(self._learner.machine),
        )
