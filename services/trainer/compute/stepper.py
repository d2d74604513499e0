"""One optimizer step, in as many pieces as the memory asks for."""

import contextlib
import gc
from collections.abc import Callable, Sequence

import torch

from libs.contracts.errors import FailedPrecondition
from libs.contracts.task import Training
from services.trainer.compute.batches import Batch, collate
from services.trainer.compute.examples import Item
from services.trainer.compute.learner import Learner
from services.trainer.compute.machine import is_out_of_memory
from services.trainer.compute.methods import Objective
from services.trainer.compute.ranks import Alone, Group
from services.trainer.domain.protocol import Squeezed
from services.trainer.domain.watch import pieces

_CLIP = 1.0
_NAMED_ROWS = 8
_ALONE = Alone()


class Stepper:
    """Forward, backward, clip, step.

    Args:
        learner: Model with trainable weights.
        objective: Settled.
        items: What the plan's positions point into.
        recipe: Of the task.
        pad: Token id for padding.
        say: Told when a step had to be cut smaller.
        split: Parts that each micro-batch is cut into from the start.
        group: The processes that share every step.
    """

    def __init__(
        self,
        learner: Learner,
        objective: Objective,
        items: Sequence[Item],
        recipe: Training,
        *,
        pad: int,
        say: Callable[[Squeezed], None],
        split: int = 1,
        group: Group = _ALONE,
    ) -> None:
        self.learner = learner
        self.items = items
        self.split = split
        self.optimizer = _optimizer(learner, recipe)
        self._objective = objective
        self._recipe = recipe
        self._pad = pad
        self._say = say
        self.group = group

    def take(self, number: int, micro: Sequence[tuple[int, ...]], learning_rate: float) -> float:
        """Step `number` (from 1) over its micro-batches; returns its loss.

        Out of memory, it is undone and taken again in smaller pieces; the effective batch stays.
        Raises FailedPrecondition (NAN_LOSS) naming the rows; MemoryError when single rows do not fit.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        loss = self._within_memory(number, micro)
        self.group.sum_gradients(weight for _, weight in self.learner.trainable())
        norm = torch.nn.utils.clip_grad_norm_([weight for _, weight in self.learner.trainable()], _CLIP)
        if not (loss == loss and abs(loss) != float("inf")) or not torch.isfinite(norm):
            raise FailedPrecondition(
                f"loss is {loss:g} and the gradient norm {float(norm):g} at step {number}; rows of the batch: "
                f"{self.named(micro)}; lower recipe.learning_rate or look at these rows",
                reason="NAN_LOSS",
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def _within_memory(self, number: int, micro: Sequence[tuple[int, ...]]) -> float:
        while True:
            loss, failure = 0.0, None
            try:
                loss = self._gradients(number, micro)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                # Without its frames, which hold the tensors there is no room for.
                failure = MemoryError(str(error))
            if not self.group.any(failure is not None):
                return self.group.total(loss)
            if max(len(batch) for batch in micro) <= self.split * self.group.world:
                raise failure or MemoryError("another process of the run is out of memory")
            self._squeeze(number, str(failure or "another process").strip().partition("\n")[0])

    def named(self, micro: Sequence[tuple[int, ...]]) -> str:
        """The rows of a step, in words."""
        ids = [self.items[row].item_id for rows in micro for row in rows]
        more = f" and {len(ids) - _NAMED_ROWS} more" if len(ids) > _NAMED_ROWS else ""
        return ", ".join(ids[:_NAMED_ROWS]) + more

    def batches(self, micro: Sequence[tuple[int, ...]]) -> list[Batch]:
        """The batches a step is taken in."""
        device = self.learner.machine.device
        return [
            collate([(at, self.items[at]) for at in piece], self._pad, device)
            for batch in micro
            for piece in pieces(batch, self.split * self.group.world)[self.group.rank :: self.group.world]
        ]

    def _gradients(self, number: int, micro: Sequence[tuple[int, ...]]) -> float:
        if getattr(self._recipe, "dropout", 0.0):
            # The state of the generator is then a function of seed and step, and a resumed run draws the same.
            torch.manual_seed((self._recipe.seed * 1_000_003 + number - 1) * self.group.world + self.group.rank)
        batches = self.batches(micro)
        self._objective.open_step(self.learner, batches)
        weight = self.group.total(self._objective.weight(batches))
        total = 0.0
        for batch in batches:
            loss = self._objective.loss(self.learner, batch) / weight
            loss.backward()
            total += loss.item()
        return total

    def _squeeze(self, number: int, reason: str) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.split *= 2
        gc.collect()
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()
        self._say(Squeezed(step=number, split=self.split, reason=reason[:300]))


def _optimizer(learner: Learner, recipe: Training) -> torch.optim.AdamW:
    """AdamW without weight decay (Loshchilov and Hutter, 2019), one fused kernel per step."""
    weights = [weight for _, weight in learner.trainable()]
    return torch.optim.AdamW(weights, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
