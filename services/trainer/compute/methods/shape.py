"""The shape of a method: what it reads, how it prepares a model, what its loss is, what it saves."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from services.trainer.compute.batches import Batch
from services.trainer.compute.examples import Item
from services.trainer.compute.learner import Learner
from services.trainer.compute.machine import Machine
from services.trainer.compute.rows import Row
from services.trainer.domain.protocol import Job


@dataclass(frozen=True, slots=True)
class Language:
    """How text becomes tokens: the tokenizer, the ids that end an answer, the id that pads."""

    tokenizer: Any
    stops: frozenset[int]
    pad: int


class Objective(Protocol):
    """What a method minimises. A step's loss is the sum of `loss` over its batches, divided by `weight` of them all."""

    def settle(self, learner: Learner, items: Sequence[Item], language: Language) -> None:
        """Compute once, from the model as it begins, what every step needs. Called before anything is trained."""

    def open_step(self, learner: Learner, batches: Sequence[Batch]) -> None:
        """See a whole step before its first loss, so that how it is cut into batches changes nothing."""

    def weight(self, batches: Sequence[Batch]) -> float:
        """What the sum of a step's losses is divided by."""

    def loss(self, learner: Learner, batch: Batch) -> torch.Tensor:
        """Loss of a batch, summed; fp32 scalar."""


@dataclass(frozen=True, slots=True)
class Method:
    """One way to train. `read` yields an item per row it can use and raises InvalidInput for one it cannot.

    Of several processes all that hold a part of the weights call `save`, and the first writes.
    """

    read: Callable[[Iterator[Row], Language], Iterator[Item]]
    prepare: Callable[[Job, Machine], Learner]
    objective: Callable[[Job, Machine], Objective]
    save: Callable[[Learner, Job, Path], None]
