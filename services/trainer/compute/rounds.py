"""A round of a search: trials that differ in rank, scale or learning rate alone, trained in one pass over the base."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from libs.contracts.task.recipe import Adapted
from services.trainer.compute.batches import collate
from services.trainer.compute.examples import Item
from services.trainer.compute.methods import Language
from services.trainer.compute.methods.reference import in_batches
from services.trainer.compute.stepper import CLIP, optimizer_of
from services.trainer.compute.together import Together
from services.trainer.domain.plan import Plan

SIDE_BY_SIDE = frozenset({"learning_rate", "rank", "alpha", "rslora", "warmup_steps"})
"""Options that leave the rows of every step as they are."""


@dataclass(slots=True)
class Seat:
    """One trial of a round, and what came of it; `loss` is the last on the validation split."""

    recipe: Adapted
    plan: Plan
    loss: float | None = None
    step: int = 0
    pruned: bool = False
    why: str = ""


class Round:
    """Trials over one base.

    Args:
        together: Their LoRAs.
        seats: By the names of the LoRAs; the steps of all plans are the same.
        items: What the plans' positions point into.
        held_out: What they are compared by.
        language: For padding.
    """

    def __init__(
        self, together: Together, seats: Mapping[str, Seat], items: Sequence[Item], held_out: Sequence[Item],
        language: Language,
    ) -> None:  # fmt: skip
        self._together = together
        self._seats = seats
        self._items = items
        self._held_out = held_out
        self._language = language
        self._device = together.learner.machine.device
        self._optimizers = {
            name: optimizer_of(together.weights(name), seat.recipe.learning_rate) for name, seat in seats.items()
        }

    def run(self, every: int, stop: Callable[[], bool], give_up: Callable[[str, int, float], bool]) -> bool:
        """Train to the end; False when it was asked to stop.

        Every so many steps, and at the end, all are measured; `give_up` is told name, step and loss of each, and says
        whether that trial is hopeless.
        """
        steps = next(iter(self._seats.values())).plan.steps
        for number, micro in enumerate(steps, start=1):
            if stop():
                return False
            if not self._together.names:
                return True
            self._take(number, micro)
            if self._together.names and (number % every == 0 or number == len(steps)):
                for name, loss in self._measured().items():
                    self._seats[name].loss = loss
                    if give_up(name, number, loss) and number < len(steps):
                        self._seats[name].pruned = True
                        self._together.drop(name)
        return True

    def _take(self, number: int, micro: Sequence[tuple[int, ...]]) -> None:
        batches = [collate([(at, self._items[at]) for at in rows], self._language.pad, self._device) for rows in micro]
        weight = float(sum(batch.trained for batch in batches))
        for batch in batches:
            losses = self._together.losses(batch)
            (torch.stack([loss.sum() for loss in losses.values()]).sum() / weight).backward()
        for name in list(self._together.names):
            seat, weights = self._seats[name], self._together.weights(name)
            seat.step = number
            norm = torch.nn.utils.clip_grad_norm_(weights, CLIP)
            if not torch.isfinite(norm):
                seat.loss, seat.why = None, f"the gradient norm is {float(norm):g} at step {number}"
                self._together.drop(name)
                continue
            optimizer = self._optimizers[name]
            for group in optimizer.param_groups:
                group["lr"] = seat.plan.learning_rates[number - 1]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _measured(self) -> dict[str, float]:
        model = self._together.learner.model
        model.eval()
        totals, weight = dict.fromkeys(self._together.names, 0.0), 0
        size = next(iter(self._seats.values())).recipe.batch_size
        for batch in in_batches(self._held_out, size, self._language, self._device):
            for name, losses in self._together.losses(batch).items():
                totals[name] += losses.sum().item()
            weight += batch.trained
        model.train()
        return {name: round(total / weight, 6) for name, total in totals.items()}
