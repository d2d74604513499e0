"""Where the weights of a model lie: whole in each process, or shared out over those of the run."""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar, cast

import torch

T = TypeVar("T")
Tensors = dict[str, torch.Tensor]


class Placement(Protocol):
    """How the weights of a model are reached; its operations are taken part in by every process of the run."""

    @property
    def shared(self) -> bool:
        """Whether each process has a part only; the backward pass then sums the gradients of all."""

    def within(self, work: Callable[[], T]) -> T:
        """Do work that computes with the model."""

    def gather(self, tensors: Mapping[str, torch.Tensor]) -> Tensors | None:
        """The tensors whole, on the processor, for the process that writes them; None for the others."""

    def put(self, weight: torch.Tensor, value: torch.Tensor | None) -> None:
        """Give a weight, or its part here, a whole value; only that of the first process is looked at."""


class Whole:
    """Every process has all weights; `rank` 0 writes."""

    shared = False

    def __init__(self, rank: int = 0) -> None:
        self._rank = rank

    def within(self, work: Callable[[], T]) -> T:
        """Do it."""
        return work()

    def gather(self, tensors: Mapping[str, torch.Tensor]) -> Tensors | None:
        """The tensors, if this is the process that writes."""
        if self._rank:
            return None
        return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def put(self, weight: torch.Tensor, value: torch.Tensor | None) -> None:
        """Copy it; nothing to do where there is none."""
        if value is not None:
            weight.copy_(value)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself, or all of one that is shared out; every process has to ask."""
    return cast("torch.Tensor", tensor.full_tensor()) if hasattr(tensor, "full_tensor") else tensor
