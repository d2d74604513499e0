"""LoRA products on CPU: one pair of matrix products for each adapter in the batch, or one pair for many of them.

vLLM's CPU operators gather the adapter's whole weight for every token (`einsum("bi,boi->bo", x, w[indices])`): at rank
64 that is hundreds of megabytes per step. They also take index -1, which marks a token without an adapter, for the last
slot. Here a token without an adapter gets nothing, the weights are read once per adapter (Chen et al., Punica, 2023),
and which token belongs to which adapter is worked out once per step (`cpu_groups`) instead of once per product. Where
many adapters have a few tokens each and their weights are small, calling the kernels takes longer than they do: those
adapters' rows are padded to one length and multiplied by all their weights in one batched product, those of a fused
layer's slices side by side. A layer that no adapter of the engine has weights for costs nothing (measured in
`bench/lora_cpu.py`).
"""

import functools
from collections.abc import Iterator
from typing import Any

from services.serving.engine.compute.cpu_groups import Groups

_SMALL_BYTES = 128 * 1024
"""Gathering weights larger than that costs more than the calls that it saves."""
_WHOLE, _EMPTY = "_pawl_whole", "_pawl_empty"


def use_grouped_products() -> None:
    """Put these operators in the place of vLLM's, in this process and those forked from it, once."""
    from vllm.lora.layers import BaseLayerWithLoRA
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

    PunicaWrapperCPU.update_metadata = update_metadata
    PunicaWrapperCPU.add_lora_linear = add_lora_linear
    PunicaWrapperCPU.add_lora_embedding = add_lora_embedding
    PunicaWrapperCPU.add_lora_logits = add_lora_logits
    for layer in _with_subclasses(BaseLayerWithLoRA):
        for name in {"set_lora", "reset_lora"} & vars(layer).keys():
            setattr(layer, name, _told(getattr(layer, name)))


def _with_subclasses(kind: Any) -> Iterator[Any]:
    yield kind
    for each in kind.__subclasses__():
        yield from _with_subclasses(each)


def _told(change: Any) -> Any:
    """A method by which vLLM gives a slot of a layer other weights, or none."""

    @functools.wraps(change)
    def changed(layer: Any, *args: Any, **kwargs: Any) -> None:
        change(layer, *args, **kwargs)
        stacked = getattr(layer, "lora_b_stacked", ())
        forget(*(stacked if isinstance(stacked, tuple) else (stacked,)))

    return changed


def forget(*stacked: Any) -> None:
    """What was known of a layer's weights, by its B, is no longer so."""
    for each in stacked:
        vars(each).pop(_EMPTY, None)


def _unused(stacked: Any) -> bool:
    """Whether no slot has weights: B is zero unless an adapter has this layer."""
    held = vars(stacked)
    if _EMPTY not in held:
        held[_EMPTY] = not bool(stacked.any())
    return bool(held[_EMPTY])


def update_metadata(self: Any, mapping: Any, lora_index_to_id: Any, max_loras: int, vocab_size: int, **_: Any) -> None:
    """Called by vLLM whenever the adapters of the batch change."""
    self._update_base_metadata(mapping, lora_index_to_id, max_loras, vocab_size)
    self.token_groups = Groups(self.token_lora_indices, len(lora_index_to_id))
    self.sampled_groups = Groups(self.sampler_indices, len(lora_index_to_id))


def add_lora_linear(
    self: Any,
    y: Any,
    x: Any,
    lora_a_stacked: tuple[Any, ...],
    lora_b_stacked: tuple[Any, ...],
    scale: float,
    output_slices: tuple[int, ...],
    **_: Any,
) -> None:
    """`y[:, slice] += scale * B A x`, for every slice of a fused layer.

    Shapes: y (rows, sum of slices), x (rows, in), A (slots, 1, rank, in), B (slots, 1, slice, rank).
    """
    if all(_unused(each) for each in lora_b_stacked):
        return
    _add(y, x, side_by_side(lora_a_stacked), lora_b_stacked, scale, self.token_groups, output_slices)


def add_lora_embedding(self: Any, y: Any, x: Any, lora_b_stacked: Any, add_inputs: bool = True, **_: Any) -> None:  # noqa: ARG001
    """`y += B x`, where x is already the embedding's row of A. Shapes: y (rows, out), x (rows, rank)."""
    if _unused(lora_b_stacked):
        return
    for slot, rows in self.token_groups.every:
        weight = _weight(lora_b_stacked, slot)
        if isinstance(rows, slice):
            y[rows] += x[rows].to(weight.dtype) @ weight.t()
        else:
            y.index_add_(0, rows, x[rows].to(weight.dtype) @ weight.t())


def add_lora_logits(
    self: Any, y: Any, x: Any, lora_a_stacked: Any, lora_b_stacked: Any, scale: float, **_: Any
) -> None:
    """`y += scale * B A x` for the head. Shapes: y (rows, vocabulary), x (rows, in)."""
    if _unused(lora_b_stacked):
        return
    # Model and adapter may be padded to different widths.
    size = lora_b_stacked.shape[-2]
    _add(y, x, lora_a_stacked, (lora_b_stacked,), scale, self.sampled_groups, (size,))


def side_by_side(stacked: tuple[Any, ...]) -> Any:
    """The A of all slices as one tensor (slots, 1, sum of ranks, in) that they are views of from then on."""
    if len(stacked) == 1:
        return stacked[0]
    held = vars(stacked[0])
    if _WHOLE not in held:
        import torch

        with torch.inference_mode(mode=False):
            whole = held[_WHOLE] = torch.cat([each.clone() for each in stacked], dim=-2)
            for each, part in zip(stacked, whole.split([each.shape[-2] for each in stacked], dim=-2), strict=True):
                each.set_(part)
    return held[_WHOLE]


def _add(y: Any, x: Any, a: Any, bs: tuple[Any, ...], scale: float, groups: Groups, sizes: tuple[int, ...]) -> None:
    together = groups.together
    if together is None or max(map(_size, (a, *bs))) > _SMALL_BYTES:
        alone = groups.every
    else:
        alone = groups.alone
        padded = x.index_select(0, together.places).view(*together.shape, x.shape[-1])
        inner = padded.bmm(_weights(a, together.slots))
        for target, part, b in _slices(y, inner, bs, sizes):
            out = part.bmm(_weights(b, together.slots)).flatten(0, 1).index_select(0, together.taken)
            _put(target, together.rows, out, scale)
    for slot, rows in alone:
        low = x[rows] @ _weight(a, slot).t()
        # Rounded alike in all branches: an answer must not depend on who else is in the batch.
        for target, part, b in _slices(y, low, bs, sizes):
            _put(target, rows, part @ _weight(b, slot).t(), scale)


def _slices(y: Any, inner: Any, bs: tuple[Any, ...], sizes: tuple[int, ...]) -> Any:
    """For each slice: where it goes, its part of `x A'`, and its B."""
    offset, rank = 0, inner.shape[-1] // len(bs)
    for number, (b, size) in enumerate(zip(bs, sizes, strict=True)):
        yield y[:, offset : offset + min(size, b.shape[-2])], inner[..., number * rank : (number + 1) * rank], b
        offset += size


def _put(target: Any, rows: Any, found: Any, scale: float) -> None:
    if isinstance(rows, slice):
        target[rows].add_(found, alpha=scale)
    else:
        target.index_add_(0, rows, found, alpha=scale)


def _weight(stacked: Any, slot: int) -> Any:
    return stacked[slot, 0] if stacked.dim() == 4 else stacked[slot]


def _weights(stacked: Any, slots: Any) -> Any:
    held = stacked.squeeze(1) if stacked.dim() == 4 else stacked
    return (held if slots is None else held.index_select(0, slots)).transpose(1, 2)


def _size(stacked: Any) -> int:
    """Bytes of one slot."""
    return int(stacked.shape[-1] * stacked.shape[-2] * stacked.element_size())
