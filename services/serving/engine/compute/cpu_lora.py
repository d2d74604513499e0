"""LoRA products on CPU: one pair of matrix products for each adapter in the batch, or one pair for many of them.

vLLM's CPU operators gather the adapter's whole weight for every token (`einsum("bi,boi->bo", x, w[indices])`): at rank
64 that is hundreds of megabytes per step. They also take index -1, which marks a token without an adapter, for the last
slot. Here a token without an adapter gets nothing, the weights are read once per adapter (Chen et al., Punica, 2023),
and which token belongs to which adapter is worked out once per step instead of once per product. Where many adapters
have a few tokens each and their weights are small, calling the kernels takes longer than they do: those adapters' rows
are padded to one length and multiplied by all their weights in one batched product (measured in `bench/lora_cpu.py`).
"""

from dataclasses import dataclass
from typing import Any

Group = tuple[int, Any]
"""A slot, and the rows (tensor of indices) that are its; None stands for every row."""
_FEW_ROWS, _MANY_GROUPS = 8, 3
_SMALL_BYTES = 128 * 1024
"""Gathering weights larger than that costs more than the calls that it saves."""


@dataclass(frozen=True, slots=True)
class Together:
    """Groups of few rows. `slots` (groups,), `places` (groups, longest) index rows of the batch, padded with any;
    `rows` (n,) are all of them in order, `taken` (n,) where each lies in `places`, flattened.

    `slots` None: each slot there is, in order, so that no weight has to be copied. `rows` None: each row there is.
    """

    slots: Any
    places: Any
    rows: Any
    taken: Any


@dataclass(frozen=True, slots=True)
class Groups:
    """A batch by adapter: `every` group one by one, or those `alone` one by one and the rest `together`."""

    every: tuple[Group, ...]
    alone: tuple[Group, ...] = ()
    together: Together | None = None


def use_grouped_products() -> None:
    """Put these operators in the place of vLLM's, in this process and those forked from it, once."""
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

    PunicaWrapperCPU.update_metadata = update_metadata
    PunicaWrapperCPU.add_lora_linear = add_lora_linear
    PunicaWrapperCPU.add_lora_embedding = add_lora_embedding
    PunicaWrapperCPU.add_lora_logits = add_lora_logits


def groups_of(indices: Any, slots: int) -> Groups:
    """The groups of a batch. `indices` (rows,) names each row's of so many `slots`; negative: no adapter, left out."""
    ordered, order = indices.sort(stable=True)
    found, counts = ordered.unique_consecutive(return_counts=True)
    present = found.tolist()
    if len(present) == 1:
        return Groups(((present[0], None),) if present[0] >= 0 else ())
    every = tuple((slot, rows) for slot, rows in zip(present, order.split(counts.tolist()), strict=True) if slot >= 0)
    few = tuple(group for group in every if len(group[1]) <= _FEW_ROWS)
    if len(few) < _MANY_GROUPS:
        return Groups(every)
    alone = tuple(group for group in every if len(group[1]) > _FEW_ROWS)
    return Groups(every, alone, _together(few, slots, len(indices)))


def _together(groups: tuple[Group, ...], slots: int, batch: int) -> Together:
    import torch

    # Copying the weights of most slots takes longer than multiplying some rows in vain by those of all.
    whole = 2 * len(groups) >= slots
    held = dict(groups)
    none = groups[0][1][:0]
    members = [held.get(slot, none) for slot in range(slots)] if whole else list(held.values())
    places = torch.nn.utils.rnn.pad_sequence(members, batch_first=True)
    counts = torch.tensor([len(each) for each in members])
    taken = (torch.arange(places.shape[1]) < counts.unsqueeze(1)).flatten().nonzero().squeeze(1)
    rows, order = torch.cat(members).sort()
    return Together(
        None if whole else torch.tensor(list(held)), places, None if len(rows) == batch else rows, taken[order]
    )


def update_metadata(self: Any, mapping: Any, lora_index_to_id: Any, max_loras: int, vocab_size: int, **_: Any) -> None:
    """Called by vLLM whenever the adapters of the batch change."""
    self._update_base_metadata(mapping, lora_index_to_id, max_loras, vocab_size)
    self.token_groups = groups_of(self.token_lora_indices, len(lora_index_to_id))
    self.sampled_groups = groups_of(self.sampler_indices, len(lora_index_to_id))


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
    groups, offset = self.token_groups, 0
    padded = None if groups.together is None else x[groups.together.places]
    for a, b, size in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
        _add(y[:, offset : offset + size], x, a, b, scale, groups, padded)
        offset += size


def add_lora_embedding(self: Any, y: Any, x: Any, lora_b_stacked: Any, add_inputs: bool = True, **_: Any) -> None:  # noqa: ARG001
    """`y += B x`, where x is already the embedding's row of A. Shapes: y (rows, out), x (rows, rank)."""
    for slot, rows in self.token_groups.every:
        weight = _weight(lora_b_stacked, slot)
        if rows is None:
            y += x.to(weight.dtype) @ weight.t()
        else:
            y.index_add_(0, rows, x[rows].to(weight.dtype) @ weight.t())


def add_lora_logits(
    self: Any, y: Any, x: Any, lora_a_stacked: Any, lora_b_stacked: Any, scale: float, **_: Any
) -> None:
    """`y += scale * B A x` for the head. Shapes: y (rows, vocabulary), x (rows, in)."""
    groups = self.sampled_groups
    padded = None if groups.together is None else x[groups.together.places]
    _add(y, x, lora_a_stacked, lora_b_stacked, scale, groups, padded)


def _add(y: Any, x: Any, a: Any, b: Any, scale: float, groups: Groups, padded: Any) -> None:
    """`padded` (groups, longest, in) are the rows of `groups.together`, gathered once for all slices of a layer."""
    # Model and adapter may be padded to different widths.
    target = y[:, : b.shape[-2]]
    together = groups.together
    if together is None or max(_size(a), _size(b)) > _SMALL_BYTES:
        alone = groups.every
    else:
        alone = groups.alone
        out = padded.bmm(_weights(a, together.slots)).bmm(_weights(b, together.slots)).flatten(0, 1)
        found = out.index_select(0, together.taken)
        if together.rows is None:
            target.add_(found, alpha=scale)
        else:
            target.index_add_(0, together.rows, found, alpha=scale)
    for slot, rows in alone:
        down, up = _weight(a, slot), _weight(b, slot)
        # Rounded alike in all branches: an answer must not depend on who else is in the batch.
        if rows is None:
            target.add_((x @ down.t()) @ up.t(), alpha=scale)
        else:
            target.index_add_(0, rows, (x[rows] @ down.t()) @ up.t(), alpha=scale)


def _weight(stacked: Any, slot: int) -> Any:
    return stacked[slot, 0] if stacked.dim() == 4 else stacked[slot]


def _weights(stacked: Any, slots: Any) -> Any:
    held = stacked.squeeze(1) if stacked.dim() == 4 else stacked
    return (held if slots is None else held.index_select(0, slots)).transpose(1, 2)


def _size(stacked: Any) -> int:
    """Bytes of one slot."""
    return int(stacked.shape[-1] * stacked.shape[-2] * stacked.element_size())
