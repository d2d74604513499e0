"""LoRA products on CPU, one pair of matrix products per adapter in the batch.

vLLM's CPU operators gather the adapter's whole weight for every token (`einsum("bi,boi->bo", x, w[indices])`): at rank
64 that is hundreds of megabytes per step. They also take index -1, which marks a token without an adapter, for the last
slot. Here a token without an adapter gets nothing, the weights are read once per adapter (Chen et al., Punica, 2023),
and which token belongs to which adapter is worked out once per step instead of once per product.
"""

from typing import Any

Group = tuple[int, Any]
"""A slot, and the rows (tensor of indices) that are its; None stands for every row."""


def use_grouped_products() -> None:
    """Put these operators in the place of vLLM's, in this process and those forked from it, once."""
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

    PunicaWrapperCPU.update_metadata = update_metadata
    PunicaWrapperCPU.add_lora_linear = add_lora_linear
    PunicaWrapperCPU.add_lora_embedding = add_lora_embedding
    PunicaWrapperCPU.add_lora_logits = add_lora_logits


def groups_of(indices: Any) -> tuple[Group, ...]:
    """The groups of a batch. `indices` (rows,) names each row's slot; negative: no adapter, left out."""
    present = indices.unique().tolist()
    if len(present) == 1:
        return ((present[0], None),) if present[0] >= 0 else ()
    return tuple((slot, (indices == slot).nonzero().squeeze(1)) for slot in present if slot >= 0)


def update_metadata(self: Any, mapping: Any, lora_index_to_id: Any, max_loras: int, vocab_size: int, **_: Any) -> None:
    """Called by vLLM whenever the adapters of the batch change."""
    self._update_base_metadata(mapping, lora_index_to_id, max_loras, vocab_size)
    self.token_groups = groups_of(self.token_lora_indices)
    self.sampled_groups = groups_of(self.sampler_indices)


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
    offset = 0
    for a, b, size in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
        _add(y[:, offset : offset + size], x, a, b, scale, self.token_groups)
        offset += size


def add_lora_embedding(self: Any, y: Any, x: Any, lora_b_stacked: Any, add_inputs: bool = True, **_: Any) -> None:  # noqa: ARG001
    """`y += B x`, where x is already the embedding's row of A. Shapes: y (rows, out), x (rows, rank)."""
    for slot, rows in self.token_groups:
        weight = _weight(lora_b_stacked, slot)
        if rows is None:
            y += x.to(weight.dtype) @ weight.t()
        else:
            y.index_add_(0, rows, x[rows].to(weight.dtype) @ weight.t())


def add_lora_logits(
    self: Any, y: Any, x: Any, lora_a_stacked: Any, lora_b_stacked: Any, scale: float, **_: Any
) -> None:
    """`y += scale * B A x` for the head. Shapes: y (rows, vocabulary), x (rows, in)."""
    _add(y, x, lora_a_stacked, lora_b_stacked, scale, self.sampled_groups)


def _add(y: Any, x: Any, a: Any, b: Any, scale: float, groups: tuple[Group, ...]) -> None:
    for slot, rows in groups:
        down, up = _weight(a, slot), _weight(b, slot)
        # Model and adapter may be padded to different widths.
        target = y[:, : up.shape[0]]
        # Rounded alike in both branches: an answer must not depend on who else is in the batch.
        if rows is None:
            target.add_((x @ down.t()) @ up.t(), alpha=scale)
        else:
            target.index_add_(0, rows, (x[rows] @ down.t()) @ up.t(), alpha=scale)


def _weight(stacked: Any, slot: int) -> Any:
    return stacked[slot, 0] if stacked.dim() == 4 else stacked[slot]
