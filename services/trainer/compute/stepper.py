"""One optimizer step, in as many pieces as the memory asks for."""

import gc
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from libs.contracts.errors import FailedPrecondition
from libs.contracts.task import Training
from services.trainer.compute.batches import Batch, collate
from services.trainer.compute.examples import Item
from services.trainer.compute.fused import forget
from services.trainer.compute.learner import Learner
from services.trainer.compute.machine import is_out_of_memory
from services.trainer.compute.methods import Objective
from services.trainer.compute.placement import whole
from services.trainer.compute.ranks import Alone, Group, OutOfStep
from services.trainer.domain.protocol import Squeezed
from services.trainer.domain.watch import pieces

CLIP = 1.0
"""Norm that the gradients of a step are cut down to."""
_NAMED_ROWS = 8
_ALONE = Alone()
T = TypeVar("T")


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
        self.optimizer = optimizer_of([weight for _, weight in learner.trainable()], recipe.learning_rate)
        self._objective = objective
        self._recipe = recipe
        self._pad = pad
        self._say = say
        self.group = group

    def take(self, number: int, micro: Sequence[tuple[int, ...]], learning_rate: float) -> float:
        """Step `number` (from 1) over its micro-batches; returns its loss.

        Out of memory, it is undone and taken again in smaller pieces; the effective batch stays. Raises
        FailedPrecondition (NAN_LOSS) naming the rows; MemoryError when single rows do not fit; OutOfStep when weights
        are shared out, since the other processes are then in the middle of a layer and the run has to begin again.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        loss = self._within_memory(number, micro)
        weights = [weight for _, weight in self.learner.trainable()]
        if not self.learner.placement.shared:
            self.group.sum_gradients(weights)
        norm = whole(torch.nn.utils.clip_grad_norm_(weights, CLIP))
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
            # Between the parts all processes agree: whoever is out of memory must not leave the others to wait.
            opened, failure = self._attempted(lambda: self._open(number, micro))
            if not self.group.any(failure is not None):
                batches, weight, ahead = opened or ([], 0.0, 0.0)
                total = self.group.total(weight)
                self._objective.open_step(self.group.total(ahead) / total)
                loss, failure = self._attempted(lambda: self._gradients(batches, total))  # noqa: B023 - called at once
                del batches
                if not self.group.any(failure is not None):
                    return self.group.total(loss or 0.0)
            opened = None
            reason = str(failure or "another process").strip().partition("\n")[0]
            if max(len(batch) for batch in micro) <= self.split * self.group.world:
                raise failure or MemoryError("another process of the run is out of memory")
            self._squeeze(number, reason)

    def _attempted(self, work: Callable[[], T]) -> tuple[T | None, MemoryError | None]:
        """What the work gives, or that memory was not enough for it."""
        try:
            return work(), None
        except (RuntimeError, MemoryError) as error:
            short = is_out_of_memory(error)
            if self.learner.placement.shared:
                if short:
                    self.group.tell_out_of_memory(str(error))
                told = self.group.told_out_of_memory()
                if told:
                    raise OutOfStep(told) from None
            if not short:
                raise
            # Without its frames, which hold the tensors there is no room for.
            return None, MemoryError(str(error))

    def named(self, micro: Sequence[tuple[int, ...]]) -> str:
        """The rows of a step, in words."""
        ids = [self.items[row].item_id for rows in micro for row in rows]
        more = f" and {len(ids) - _NAMED_ROWS} more" if len(ids) > _NAMED_ROWS else ""
        return ", ".join(ids[:_NAMED_ROWS]) + more

    def batches(self, micro: Sequence[tuple[int, ...]]) -> list[tuple[Batch, bool]]:
        """The batches that this process takes of a step, and whether each counts.

        Where weights are shared out every process computes as often as the others: one with less to do repeats a piece
        that does not count.
        """
        device = self.learner.machine.device
        found = []
        for batch in micro:
            cut = pieces(batch, self.split * self.group.world)
            mine = [(piece, True) for piece in cut[self.group.rank :: self.group.world]]
            if self.learner.placement.shared:
                mine += [(cut[0], False)] * (-(-len(cut) // self.group.world) - len(mine))
            found += [(collate([(at, self.items[at]) for at in piece], self._pad, device), on) for piece, on in mine]
        return found

    def _open(self, number: int, micro: Sequence[tuple[int, ...]]) -> tuple[list[tuple[Batch, bool]], float, float]:
        """The batches of this process, what they weigh, and what the step has to know of them."""
        if getattr(self._recipe, "dropout", 0.0):
            # The state of the generator is then a function of seed and step, and a resumed run draws the same.
            torch.manual_seed((self._recipe.seed * 1_000_003 + number - 1) * self.group.world + self.group.rank)
        batches = self.batches(micro)
        # Every process looks at as many as the others, as it computes as many.
        ahead = sum(self._objective.ahead(self.learner, batch) * counts for batch, counts in batches)
        return batches, self._objective.weight([batch for batch, counts in batches if counts]), ahead

    def _gradients(self, batches: Sequence[tuple[Batch, bool]], weight: float) -> float:
        total = torch.zeros((), device=self.learner.machine.device)
        for batch, counts in batches:
            loss = self._objective.loss(self.learner, batch) / weight
            loss = loss if counts else loss * 0.0
            loss.backward()
            total += loss.detach()
        # Once a step: a GPU that is asked has nothing to do until it has answered.
        return float(total)

    def _squeeze(self, number: int, reason: str) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.split *= 2
        forget(self.learner.model)
        gc.collect()
        if self.learner.machine.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()  # what did not fit is not what the run takes
        self._say(Squeezed(step=number, split=self.split, reason=reason[:300]))


def optimizer_of(weights: Sequence[torch.nn.Parameter], learning_rate: float) -> torch.optim.AdamW:
    """AdamW without weight decay (Loshchilov and Hutter, 2019), one fused kernel per step."""
    return torch.optim.AdamW(weights, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
