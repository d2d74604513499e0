"""A model shared out over the processes of a run: FSDP2 of torch.distributed."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from services.trainer.compute.machine import Machine
from services.trainer.compute.placement import Tensors, whole

T = TypeVar("T")


class _Root(torch.nn.Module):  # type: ignore[misc]
    """What is not in a layer (embeddings, norm, head) is gathered while this runs, whatever the work does with it."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[], T]) -> T:
        """Do the work."""
        return work()


class Shards:
    """Weights, gradients and optimizer state in as many parts as there are processes (Zhao and others, 2023).

    A layer is whole only while it computes. Made from a model that every process holds whole, on the processor where
    the device is a GPU: one layer at a time is placed there.

    Args:
        model: Hugging Face causal model, or PEFT's around one; its parameters become DTensors.
        plain: The causal model itself.
        machine: Device and precision; products are computed in that precision, gradients summed in fp32.
        rank: Of this process.
        world: Number of processes.
    """

    shared = True

    def __init__(self, model: torch.nn.Module, plain: Any, machine: Machine, *, rank: int, world: int) -> None:
        self._rank = rank
        mesh = init_device_mesh(machine.device.type, (world,))
        policy = MixedPrecisionPolicy(param_dtype=machine.dtype, reduce_dtype=torch.float32)
        for layer in _layers(plain):
            fully_shard(layer, mesh=mesh, mp_policy=policy)
        self._root = _Root(model)
        fully_shard(self._root, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
        for module in self._root.modules():
            if isinstance(module, FSDPModule):
                # A step's loss is already divided by the weight of all processes: their gradients are added up.
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)

    def within(self, work: Callable[[], T]) -> T:
        """Do work with the model; every process has to do the like, since each layer waits for all."""
        return cast("T", self._root(work))

    def gather(self, tensors: Mapping[str, torch.Tensor]) -> Tensors | None:
        """One tensor after the other, so that no process but the first ever holds more than one of them whole."""
        found: Tensors = {}
        for name, tensor in tensors.items():
            all_of_it = whole(tensor.detach())
            if not self._rank:
                found[name] = all_of_it.cpu().contiguous()
        return None if self._rank else found

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def put(self, weight: torch.Tensor, value: torch.Tensor | None) -> None:
        """Hand out the parts of the first process's value."""
        if not isinstance(weight, DTensor):
            raise TypeError("only a weight that is shared out can be given the parts of a value")
        local = weight.to_local()
        given = torch.empty(weight.shape, dtype=weight.dtype) if value is None else value.to(weight.dtype)
        parts = distribute_tensor(given.to(local.device), weight.device_mesh, weight.placements)
        local.copy_(parts.to_local())


def _layers(plain: Any) -> list[torch.nn.Module]:
    """The layers of a model: what it names itself as not to be split."""
    named = set(plain._no_split_modules or ())  # noqa: SLF001 - as accelerate reads it; there is no public way
    return [module for module in plain.modules() if type(module).__name__ in named]
