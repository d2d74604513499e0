"""A LoRA layer as one step of the graph: the same sums as PEFT's, without the tensors in between."""

from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class _LoraLinear(Function):  # type: ignore[misc]
    """y = x W' + b + s (x A') B', with W frozen. x [..., in], W [out, in], A [rank, in], B [out, rank]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        kind = weight.dtype
        flat = x.reshape(-1, x.shape[-1]).to(kind)
        a_low, b_low = a.to(kind), (b * scale).to(kind)
        inner = flat @ a_low.t()
        out = torch.addmm(bias, flat, weight.t()) if bias is not None else flat @ weight.t()
        out.addmm_(inner, b_low.t())
        ctx.save_for_backward(flat, inner, weight, a_low, b_low)
        ctx.scale, ctx.shape, ctx.kind = scale, x.shape, x.dtype
        return out.view(*x.shape[:-1], out.shape[-1])

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        flat, inner, weight, a_low, b_low = ctx.saved_tensors
        given = given.reshape(-1, given.shape[-1]).to(weight.dtype)
        back = given @ b_low
        grad_b = (given.t() @ inner).float().mul_(ctx.scale)
        grad_a = (back.t() @ flat).float()
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (given @ weight).addmm_(back, a_low).view(ctx.shape).to(ctx.kind)
        return grad_x, None, None, grad_a, grad_b, None


def fuse(model: torch.nn.Module) -> int:
    """Have every plain LoRA layer over a plain linear one take the short way; returns how many do.

    Left alone: dropout, DoRA, quantised bases, layers with several adapters. Saving and merging see no difference.
    """
    count = 0
    for layer in model.modules():
        if not isinstance(layer, Linear) or type(layer.base_layer) is not torch.nn.Linear or layer.lora_variant:
            continue
        if list(layer.lora_A) != ["default"] or not isinstance(layer.lora_dropout["default"], torch.nn.Identity):
            continue
        layer.forward = _Short(layer, layer.forward)
        count += 1
    return count


class _Short:
    """`forward` of a fused layer; the long way while the adapter is switched off or merged."""

    def __init__(self, layer: Any, otherwise: Any) -> None:
        self._layer = layer
        self._otherwise = otherwise

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        layer = self._layer
        if layer.disable_adapters or layer.merged or args or kwargs:
            return self._otherwise(x, *args, **kwargs)
        held = layer.base_layer
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        return _LoraLinear.apply(x, held.weight, held.bias, a, b, layer.scaling["default"])
