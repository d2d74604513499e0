"""DPO: the answer that was preferred becomes likelier than the one that was not, measured from where training began."""

from collections.abc import Iterator, Sequence
from itertools import tee
from pathlib import Path
from typing import cast

import torch
from torch.nn.functional import logsigmoid

from libs.contracts.errors import FailedPrecondition
from libs.contracts.task.recipe import DpoRecipe
from services.trainer.compute.batches import Batch
from services.trainer.compute.examples import Item, render
from services.trainer.compute.learner import Learner
from services.trainer.compute.machine import Machine
from services.trainer.compute.methods.reference import kept, reference_log_probs
from services.trainer.compute.methods.shape import Language, Objective
from services.trainer.compute.rows import Row
from services.trainer.domain.protocol import Job


def read_pairs(rows: Iterator[Row], language: Language) -> Iterator[Item]:
    """An item (chosen, rejected) per row that has a wrong answer; the others are left out."""
    one, two = tee(row for row in rows if row.rejected is not None and row.rejected != row.talk)
    chosen = render(language.tokenizer, ((row.row_id, row.talk) for row in one), language.stops)
    rejected = render(language.tokenizer, ((row.row_id, row.rejected or row.talk) for row in two), language.stops)
    found = False
    for better, worse in zip(chosen, rejected, strict=True):
        found = True
        yield Item(better.row_id, (better, worse))
    if not found:
        raise FailedPrecondition(
            "no row has both an answer and a wrong one, and DPO learns from pairs: collect corrections (the corrected "
            "output becomes `rejected`), or train with method lora or kto",
            reason="NO_PAIRS", field="recipe.method",
        )  # fmt: skip


class Preference(Objective):
    """Rafailov and others (2023), eq. 7, with label smoothing and, if wanted, the chosen answer's own loss."""

    def __init__(self, job: Job, machine: Machine) -> None:
        self._recipe = cast("DpoRecipe", job.recipe)
        self._kept_in = Path(job.workspace) / "reference"
        self._device = machine.device
        self._reference = torch.empty(0)

    def settle(self, learner: Learner, items: Sequence[Item], language: Language) -> None:
        """The log-probabilities that the model as it begins gives to both answers of every pair."""
        found = kept(
            self._kept_in, "dpo", items,
            lambda: reference_log_probs(learner, items, self._recipe.batch_size, language),
        )  # fmt: skip
        self._reference = found["log_probs"].to(self._device)

    def weight(self, batches: Sequence[Batch]) -> float:
        """Pairs."""
        return float(sum(len(batch.items) for batch in batches))

    def loss(self, learner: Learner, batch: Batch) -> torch.Tensor:
        """Sum over the pairs."""
        losses = learner.losses(batch)
        zeros = torch.zeros(batch.sequences, device=losses.device)
        log_probs = zeros.index_add(0, batch.owners, -losses).view(-1, 2)
        gained = log_probs - self._reference[list(batch.items)]
        margin = self._recipe.beta * (gained[:, 0] - gained[:, 1])
        smooth = self._recipe.label_smoothing
        total = -(logsigmoid(margin) * (1 - smooth) + logsigmoid(-margin) * smooth).sum()
        if self._recipe.sft_weight:
            lengths = zeros.index_add(0, batch.owners, torch.ones_like(losses)).view(-1, 2)
            total = total - self._recipe.sft_weight * (log_probs[:, 0] / lengths[:, 0]).sum()
        return total
