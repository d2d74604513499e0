"""LoRA products on CPU, one matrix product per adapter in the batch instead of a copy of its weights per token.

vLLM's CPU operators gather the adapter's whole weight for every token (`einsum("bi,boi->bo", x, w[indices])`): at rank
64 that is hundreds of megabytes per step. They also take index -1, which marks a token without an adapter, for the last
slot. Here a token without an adapter gets zero, and the weights are read once per adapter (Chen et al., Punica, 2023).
"""

from typing import Any


def use_grouped_products() -> None:
    """Put these operators in the place of vLLM's, in this process and those forked from it, once."""
    from vllm.lora.punica_wrapper import punica_cpu

    punica_cpu.bgmv_shrink = bgmv_shrink
    punica_cpu.bgmv_expand = bgmv_expand
    punica_cpu.bgmv_expand_slice = bgmv_expand_slice
    punica_cpu.sgmv_shrink = _by_token(bgmv_shrink)
    punica_cpu.sgmv_expand = _by_token(bgmv_expand)
    punica_cpu.sgmv_expand_slice = _by_token(bgmv_expand_slice)


def grouped(inputs: Any, weights: Any, indices: Any, dtype: Any) -> Any:
    """Row t of the result is `weights[indices[t]] @ inputs[t]`, zero where the index is negative.

    Shapes: inputs (tokens, in), weights (slots, out, in) or (slots, 1, out, in), indices (tokens,).
    Returns (tokens, out).
    """
    stacked = weights.squeeze(1) if weights.dim() == 4 else weights
    result = inputs.new_zeros((inputs.shape[0], stacked.shape[1]), dtype=dtype)
    present = indices.unique().tolist()
    for slot in present:
        if slot < 0:
            continue
        weight = stacked[slot].to(dtype).t()
        if len(present) == 1:
            return inputs.to(dtype) @ weight
        rows = (indices == slot).nonzero().squeeze(1)
        result[rows] = inputs[rows].to(dtype) @ weight
    return result


def bgmv_shrink(inputs: Any, weights: Any, output: Any, indices: Any, scaling: float = 1.0) -> None:
    """`output = scaling * A x`, per token."""
    product = grouped(inputs, weights, indices, output.dtype)
    output[:, : product.shape[1]] = product * scaling


def bgmv_expand(inputs: Any, weights: Any, output: Any, indices: Any, add_inputs: bool = True) -> None:
    """`output (+)= B x`, per token; adapter and model may be padded to different widths."""
    product = grouped(inputs, weights, indices, output.dtype)
    rows = 1 if product.shape[0] == 1 else output.shape[0]
    width = min(product.shape[1], output.shape[1])
    _put(output[:, :width], product[:rows, :width], add=add_inputs)


def bgmv_expand_slice(
    inputs: Any,
    weights: Any,
    output: Any,
    indices: Any,
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = True,
) -> None:
    """`output[:, offset : offset + size] (+)= B x`, per token."""
    product = grouped(inputs, weights, indices, output.dtype)
    _put(output[:, slice_offset : slice_offset + slice_size], product, add=add_inputs)


def _put(target: Any, product: Any, *, add: bool) -> None:
    if add:
        target += product
    else:
        target.copy_(product)


def _by_token(operator: Any) -> Any:
    """The sequence form of an operator: one index per sequence, spread over its tokens."""

    def by_sequence(
        inputs: Any,
        weights: Any,
        output: Any,
        starts: Any,  # noqa: ARG001 - vLLM's signature
        lengths: Any,
        indices: Any,
        batches: int,  # noqa: ARG001
        longest: int,  # noqa: ARG001
        tokens: int,  # noqa: ARG001
        *rest: Any,
    ) -> None:
        operator(inputs, weights, output, indices.repeat_interleave(lengths), *rest)

    return by_sequence
