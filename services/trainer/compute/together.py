"""Several LoRAs trained in one pass over one base: its products are taken once for the rows of all of them.

Each has the rows of its own trial, which are the same rows: only what follows from rank, scale and learning rate is
different. The gradients of one never meet another's, so that each ends as it would have ended alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, TaskType, get_peft_model
from peft.tuners.lora import Linear
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from libs.contracts.task.recipe import Adapted
from services.trainer.compute.batches import Batch
from services.trainer.compute.learner import Learner
from services.trainer.compute.machine import Machine


@dataclass(slots=True)
class _Living:
    """Names of the LoRAs that still train, in the order of their rows."""

    names: list[str] = field(default_factory=list)


class _SideBySide(Function):  # type: ignore[misc]
    """y_k = x_k W' + b + s_k (x_k A_k') B_k', with W frozen. x [k, n, in], W [out, in]; A_k, B_k follow in pairs."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, scales: tuple[float, ...], *pairs: Tensor
    ) -> Tensor:
        kind = weight.dtype
        rows = x.reshape(len(scales), -1, x.shape[-1]).to(kind)
        out = rows @ weight.t()
        if bias is not None:
            out += bias
        low = []
        for at, scale in enumerate(scales):
            a, b = pairs[2 * at].to(kind), (pairs[2 * at + 1] * scale).to(kind)
            inner = rows[at] @ a.t()
            out[at].addmm_(inner, b.t())
            low += [a, b, inner]
        ctx.save_for_backward(rows, weight, *low)
        ctx.scales, ctx.shape, ctx.kind = scales, x.shape, x.dtype
        return out.view(*x.shape[:-1], out.shape[-1])

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, *low = ctx.saved_tensors
        given = given.reshape(len(ctx.scales), -1, given.shape[-1]).to(weight.dtype)
        grad_x = given @ weight if ctx.needs_input_grad[0] else None
        grads: list[Tensor | None] = []
        for at, scale in enumerate(ctx.scales):
            a, b, inner = low[3 * at : 3 * at + 3]
            back = given[at] @ b
            grads += [(back.t() @ rows[at]).float(), (given[at].t() @ inner).float().mul_(scale)]
            if grad_x is not None:
                grad_x[at].addmm_(back, a)
        return None if grad_x is None else grad_x.view(ctx.shape).to(ctx.kind), None, None, None, *grads


class _Way:
    """`forward` of a layer that all of them adapt."""

    def __init__(self, layer: Any, living: _Living) -> None:
        self._layer = layer
        self._living = living

    def __call__(self, x: Tensor) -> Tensor:
        held, names = self._layer.base_layer, self._living.names
        pairs = [side[name].weight for name in names for side in (self._layer.lora_A, self._layer.lora_B)]
        scales = tuple(float(self._layer.scaling[name]) for name in names)
        return _SideBySide.apply(x, held.weight, held.bias, scales, *pairs)


class Together:
    """LoRAs over a frozen base; `names` are those that still train, "0" to begin with and so on.

    Args:
        base: Hugging Face causal model, as `peft` gives it back from `unload` or as it was loaded.
        recipes: Of each; alike but for rank, scale and what concerns no layer.
        machine: Device and precision.
    """

    def __init__(self, base: Any, recipes: Sequence[Adapted], machine: Machine) -> None:
        self._living = _Living([str(at) for at in range(len(recipes))])
        model: Any = None
        for name, recipe in zip(self.names, recipes, strict=True):
            # As for one alone: the initial values are those of the seed.
            torch.manual_seed(recipe.seed)
            config = LoraConfig(
                r=recipe.rank, lora_alpha=recipe.alpha, use_rslora=recipe.rslora, bias="none",
                target_modules="all-linear", task_type=TaskType.CAUSAL_LM,
            )  # fmt: skip
            if model is None:
                model = get_peft_model(base, config, adapter_name=name, autocast_adapter_dtype=True)
            else:
                model.add_adapter(name, config)
        for weight_name, weight in model.named_parameters():
            weight.requires_grad_(".lora_" in weight_name)
        for layer in model.modules():
            if isinstance(layer, Linear):
                layer.forward = _Way(layer, self._living)
        model.train()
        self.learner = Learner(model, machine)

    @property
    def names(self) -> list[str]:
        """Of those that still train."""
        return self._living.names

    def weights(self, name: str) -> list[torch.nn.Parameter]:
        """What is trained of one of them."""
        return [weight for held, weight in self.learner.model.named_parameters() if f".{name}.weight" in held]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """What `Learner.losses` gives, for each of them."""
        count = len(self.names)
        found = self.learner.losses(_repeated(batch, count))
        return dict(zip(self.names, found.chunk(count), strict=True))

    def try_short_cut(self, batch: Batch) -> None:
        """As `Learner.try_short_cut`, over the rows of all of them."""
        self.learner.try_short_cut(_repeated(batch, len(self.names)))

    def drop(self, name: str) -> None:
        """Train one no further."""
        self.names.remove(name)

    def unload(self) -> Any:
        """The base as it was."""
        return self.learner.model.unload()


def side_by_side(base: Path) -> bool:
    """Whether the layers of a base are of the kind that is computed here: those of older models are transposed."""
    config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return not any(isinstance(layer, Conv1D) for layer in model.modules())


def _repeated(batch: Batch, count: int) -> Batch:
    rows, width = batch.tokens.shape
    steps = torch.arange(count, device=batch.places.device)[:, None]
    return replace(
        batch,
        tokens=batch.tokens.repeat(count, 1),
        positions=None if batch.positions is None else batch.positions.repeat(count, 1),
        places=(batch.places[None] + steps * rows * width).flatten(),
        targets=batch.targets.repeat(count),
        owners=(batch.owners[None] + steps * batch.sequences).flatten(),
        sequences=batch.sequences * count,
        items=batch.items * count,
    )
