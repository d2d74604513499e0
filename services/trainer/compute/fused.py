"""LoRA layers as one step of the graph: the same sums as PEFT's, without the tensors in between.

Layers that read the same input (query, key and value; gate and up) are one step together: the input is read once, and
its gradient is summed within the products.
"""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from peft.tuners.lora import Linear
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_SIDE_BY_SIDE = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


class _LoraLinears(Function):  # type: ignore[misc]
    """y_i = x W_i' + b_i + s (x A_i') B_i' for each i, with W_i frozen; one scale s.

    x [..., in]; then of each layer W [out, in], b [out] or None, A [rank, in], B [out, rank].
    """

    @staticmethod
    def forward(ctx: Any, scale: float, x: Tensor, *layers: Tensor | None) -> tuple[Tensor, ...]:
        weights, biases, downs, ups = (layers[at::4] for at in range(4))
        kind = cast("Tensor", weights[0]).dtype
        flat = x.reshape(-1, x.shape[-1]).to(kind)
        down = (_stacked(cast("Sequence[Tensor]", downs)) * scale).to(kind)
        inner = flat @ down.t()
        ranks = [len(cast("Tensor", each)) for each in downs]
        low, outs = [], []
        for weight, bias, up, own in zip(weights, biases, ups, inner.split(ranks, 1), strict=True):
            assert weight is not None
            assert up is not None
            low.append(up.to(kind))
            out = torch.addmm(bias, flat, weight.t()) if bias is not None else flat @ weight.t()
            outs.append(out.addmm_(own, low[-1].t()).view(*x.shape[:-1], out.shape[-1]))
        ctx.save_for_backward(flat, inner, down, *weights, *low)
        ctx.scale, ctx.shape, ctx.kind, ctx.ranks = scale, x.shape, x.dtype, ranks
        return tuple(outs)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        flat, inner, down, *held = ctx.saved_tensors
        count = len(ctx.ranks)
        weights, ups = held[:count], held[count:]
        given = tuple(each.reshape(-1, each.shape[-1]).to(flat.dtype) for each in given)
        backs = [each @ up for each, up in zip(given, ups, strict=True)]
        back = _stacked(backs, 1)
        grad_downs = (back.t() @ flat).float().mul_(ctx.scale).split(ctx.ranks)
        grad_x = None
        if ctx.needs_input_grad[1]:
            grad_x = given[0] @ weights[0]
            for each, weight in zip(given[1:], weights[1:], strict=True):
                grad_x.addmm_(each, weight)
            grad_x = grad_x.addmm_(back, down).view(ctx.shape).to(ctx.kind)
        found: list[Tensor | None] = [None, grad_x]
        for each, own, grad_down in zip(given, inner.split(ctx.ranks, 1), grad_downs, strict=True):
            found += [None, None, grad_down, (each.t() @ own).float()]
        return tuple(found)


def _stacked(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    return torch.cat(list(parts), dim) if len(parts) > 1 else parts[0]


def fuse(model: torch.nn.Module) -> int:
    """Have every plain LoRA layer over a plain linear one take the short way; returns how many do.

    Left alone: dropout, DoRA, quantised bases, layers with several adapters. Saving and merging see no difference.
    """
    count = 0
    for group in _groups(model):
        together = _Together(group)
        for place, layer in enumerate(group):
            layer.forward = _Short(together, place, layer.forward)
        count += len(group)
    return count


def forget(model: torch.nn.Module) -> None:
    """Let go of answers that nobody came for: a forward pass that broke off leaves them, and with them its graph."""
    for layer in model.modules():
        short = vars(layer).get("forward")
        if isinstance(short, _Short):
            short.together.forget()


def _groups(model: torch.nn.Module) -> Iterator[list[Any]]:
    """The layers that take the short way, with those that read the same input side by side."""
    for parent in model.modules():
        able = {name: layer for name, layer in parent.named_children() if _is_plain(layer)}
        for names in _SIDE_BY_SIDE:
            layers = [able[name] for name in names if name in able]
            if len(layers) == len(names) and len({layer.scaling["default"] for layer in layers}) == 1:
                yield layers
                able = {name: layer for name, layer in able.items() if name not in names}
        for layer in able.values():
            yield [layer]


def _is_plain(layer: Any) -> bool:
    if not isinstance(layer, Linear) or type(layer.base_layer) is not torch.nn.Linear or layer.lora_variant:
        return False
    return list(layer.lora_A) == ["default"] and isinstance(layer.lora_dropout["default"], torch.nn.Identity)


class _Together:
    """Layers that are computed when the first of them is asked; the others' answers wait for their turn."""

    def __init__(self, layers: list[Any]) -> None:
        self._layers = layers
        self._input: Tensor | None = None
        self._waiting: dict[int, Tensor] = {}

    def able(self) -> bool:
        return not any(layer.disable_adapters or layer.merged for layer in self._layers)

    def answer(self, place: int, x: Tensor) -> Tensor:
        """That of the layer at `place`."""
        if x is not self._input or place not in self._waiting:
            self._waiting = dict(enumerate(self._computed(x)))
            self._input = x
        mine = self._waiting.pop(place)
        if not self._waiting:
            self._input = None
        return mine

    def forget(self) -> None:
        self._input, self._waiting = None, {}

    def _computed(self, x: Tensor) -> tuple[Tensor, ...]:
        parts: list[Tensor | None] = []
        for layer in self._layers:
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            parts += [layer.base_layer.weight, layer.base_layer.bias, a, b]
        return cast("tuple[Tensor, ...]", _LoraLinears.apply(self._layers[0].scaling["default"], x, *parts))


class _Short:
    """`forward` of a fused layer; the long way while the adapter is switched off or merged."""

    def __init__(self, together: _Together, place: int, otherwise: Any) -> None:
        self.together = together
        self._place = place
        self._otherwise = otherwise

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if args or kwargs or not self.together.able():
            return cast("Tensor", self._otherwise(x, *args, **kwargs))
        return self.together.answer(self._place, x)
