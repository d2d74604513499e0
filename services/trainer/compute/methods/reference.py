"""What the model said before it was trained: log-probabilities of every sequence, computed once and kept."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from services.trainer.compute.batches import Batch, collate
from services.trainer.compute.examples import Item
from services.trainer.compute.learner import Learner
from services.trainer.compute.methods.shape import Language

Kept = dict[str, torch.Tensor]


def sequence_log_probs(learner: Learner, batch: Batch) -> torch.Tensor:
    """Sum of the log-probabilities (nats) of each sequence's trained tokens: [sequences], fp32."""
    losses = learner.losses(batch)
    return torch.zeros(batch.sequences, device=losses.device).index_add(0, batch.owners, -losses)


def in_batches(items: Sequence[Item], at_once: int, language: Language, device: torch.device) -> Iterator[Batch]:
    """Every item once, those of similar length together."""
    order = sorted(range(len(items)), key=lambda at: (items[at].length, at))
    for start in range(0, len(order), at_once):
        yield collate([(at, items[at]) for at in order[start : start + at_once]], language.pad, device)


def kept(directory: Path, name: str, items: Sequence[Item], compute: Callable[[], Kept]) -> Kept:
    """What `compute` gives, from `directory` if the same was computed there before.

    The key covers the items' ids and tokens; everything else that decides the value is the run's, and so is the
    directory.
    """
    digest = hashlib.sha256(name.encode())
    for item in items:
        digest.update(f"{item.item_id}\x1f{item.good}\x1f{[each.tokens for each in item.sequences]}\x1e".encode())
    file = directory / f"{name}-{digest.hexdigest()[:32]}.safetensors"
    try:
        held: Kept = load_file(file)
        return held
    except (OSError, SafetensorError):
        made = compute()
    directory.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}")
    save_file({key: value.contiguous() for key, value in made.items()}, partial)
    partial.replace(file)
    return made


@torch.no_grad()  # type: ignore[untyped-decorator]
def reference_log_probs(learner: Learner, items: Sequence[Item], at_once: int, language: Language) -> Kept:
    """`{"log_probs": [items, sequences of each]}` under the model as it stands."""
    learner.model.eval()
    per_item = len(items[0].sequences)
    found = torch.zeros(len(items), per_item)
    for batch in in_batches(items, at_once, language, learner.machine.device):
        found[list(batch.items)] = sequence_log_probs(learner, batch).view(-1, per_item).cpu()
    learner.model.train()
    return {"log_probs": found}
