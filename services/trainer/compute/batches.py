"""Items side by side as the tensors of one forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from services.trainer.compute.examples import Example, Item

_IGNORED = -100
_MULTIPLE = 8


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded rows.

    `tokens` [rows, length]; `positions` the same, only where rows hold several sequences; `places` are flat positions
    whose next token, in `targets`, is trained; `owners` says of each of them which of the `sequences` it belongs to,
    counted through the batch; `items` are positions in the order of the run.
    """

    tokens: torch.Tensor
    positions: torch.Tensor | None
    places: torch.Tensor
    targets: torch.Tensor
    owners: torch.Tensor
    sequences: int
    items: tuple[int, ...]

    @property
    def trained(self) -> int:
        """Trained tokens."""
        return len(self.targets)


def collate(items: Sequence[tuple[int, Item]], pad: int, device: torch.device) -> Batch:
    """One batch of (position, item); the length is rounded up so that few shapes occur and kernels are reused."""
    rows: list[Sequence[Example]] = []
    for _, item in items:
        rows.extend([item.sequences] if item.packed else [[sequence] for sequence in item.sequences])
    longest = max(sum(len(sequence.tokens) for sequence in row) for row in rows)
    width = -(-longest // _MULTIPLE) * _MULTIPLE
    tokens = torch.full((len(rows), width), pad, dtype=torch.long)
    targets = torch.full((len(rows), width), _IGNORED, dtype=torch.long)
    owners = torch.zeros((len(rows), width), dtype=torch.long)
    packed = any(len(row) > 1 for row in rows)
    positions = torch.zeros((len(rows), width), dtype=torch.long) if packed else None
    count = 0
    for at, row in enumerate(rows):
        start = 0
        for sequence in row:
            end = start + len(sequence.tokens)
            ids = torch.tensor(sequence.tokens)
            tokens[at, start:end] = ids
            trained = torch.tensor(sequence.trained[1:])
            targets[at, start : end - 1] = torch.where(trained, ids[1:], _IGNORED)
            owners[at, start:end] = count
            if positions is not None:
                positions[at, start:end] = torch.arange(end - start)
            start, count = end, count + 1
        if positions is not None:
            # Padding is a sequence of its own, so that no row ends in the middle of one.
            positions[at, start:] = torch.arange(width - start)
    flat = targets.flatten()
    places = (flat != _IGNORED).nonzero().squeeze(1)
    return Batch(
        tokens=tokens.to(device),
        positions=None if positions is None else positions.to(device),
        places=places.to(device),
        targets=flat[places].to(device),
        owners=owners.flatten()[places].to(device),
        sequences=count,
        items=tuple(position for position, _ in items),
    )


def every_other(batch: Batch, first: int = 0) -> Batch:
    """Every second row of a batch whose rows hold one sequence each, from the `first` on."""
    width = batch.tokens.shape[1]
    row = batch.places // width
    held = row % 2 == first
    places = (row // 2 * width + batch.places % width)[held]
    return Batch(
        batch.tokens[first::2], None, places, batch.targets[held], batch.owners[held] // 2,
        len(batch.tokens[first::2]), batch.items,
    )  # fmt: skip
