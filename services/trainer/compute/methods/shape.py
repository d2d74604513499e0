"""The shape of a method: what it reads, how it prepares a model, what its loss is, what it saves."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


class Objective(ABC):
    """What a method minimises. A step's loss is the sum of `loss` over its batches, divided by `weight` of them all."""

    def settle(self, learner: Learner, items: Sequence[Item], language: Language) -> None:  # noqa: B027 - need not
        """Compute once, from the model as it begins, what every step needs. Called before anything is trained."""

    def ahead(self, learner: Learner, batch: Batch) -> float:  # noqa: ARG002 - most losses need nothing of the step
        """What the losses of a whole step depend on, summed over one of its batches."""
        return 0.0

    def open_step(self, ahead: float) -> None:  # noqa: B027 - need not
        """Told `ahead` of the whole step, divided by its weight: how it is cut, and over how many, changes nothing."""

    @abstractmethod
    def weight(self, batches: Sequence[Batch]) -> float:
        """What the sum of a step's losses is divided by."""

    @abstractmethod
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
