"""Learning answers: cross-entropy over the tokens of each answer and the one that ends it."""

from collections.abc import Iterator, Sequence

import torch

from services.trainer.compute.batches import Batch
from services.trainer.compute.examples import Item, render
from services.trainer.compute.learner import Learner
from services.trainer.compute.machine import Machine
from services.trainer.compute.methods.shape import Language, Objective
from services.trainer.compute.rows import Row
from services.trainer.domain.protocol import Job


def read_answers(rows: Iterator[Row], language: Language) -> Iterator[Item]:
    """An item per row; an answer marked bad is none to learn and is left out."""
    good = ((row.row_id, row.talk) for row in rows if row.good is not False)
    for example in render(language.tokenizer, good, language.stops):
        yield Item(example.row_id, (example,))


class Completion(Objective):
    """Mean cross-entropy per trained token of the whole step, so accumulation does not change what is learned.

    With `kl_to_base`, plus that many times KL(base || model) at the same tokens: what the base would have said there
    is not forgotten for free (Li and Hoiem, 2016).
    """

    def __init__(self, job: Job, machine: Machine) -> None:  # noqa: ARG002 - as every objective is made
        self._kl: float = getattr(job.recipe, "kl_to_base", 0.0)

    def weight(self, batches: Sequence[Batch]) -> float:
        """Trained tokens."""
        return float(sum(batch.trained for batch in batches))

    def loss(self, learner: Learner, batch: Batch) -> torch.Tensor:
        """Sum of the cross-entropies, nats."""
        if not self._kl:
            return learner.losses(batch).sum()
        own, apart = learner.losses_and_divergences(batch)
        return own.sum() + self._kl * apart.sum()
