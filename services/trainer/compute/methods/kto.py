"""KTO: good answers become likelier and bad ones less, measured from where training began; no pairs are needed."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import torch

from libs.contracts.errors import FailedPrecondition
from libs.contracts.task.recipe import KtoRecipe
from services.trainer.compute.batches import Batch, every_other
from services.trainer.compute.examples import Example, Item, render
from services.trainer.compute.learner import Learner
from services.trainer.compute.machine import Machine
from services.trainer.compute.methods.reference import kept, reference_log_probs, sequence_log_probs
from services.trainer.compute.methods.shape import Language, Objective
from services.trainer.compute.rows import Conversation, Row
from services.trainer.domain.protocol import Job


def read_verdicts(rows: Iterator[Row], language: Language) -> Iterator[Item]:
    """An item per answer, good or bad: (the answer, another row's answer to the same question).

    The second is what the divergence is measured on. Which row it comes from is fixed, so that its reference is
    computed once and a step does not depend on how it is cut.
    """
    told: list[tuple[str, Conversation, bool]] = []
    for row in rows:
        told.append((row.row_id, row.talk, row.good is not False))
        if row.rejected is not None:
            told.append((f"{row.row_id}/rejected", row.rejected, False))
    if not told or all(good for *_, good in told):
        raise FailedPrecondition(
            "no answer is marked bad, and KTO learns from both kinds: collect blame or corrections, or train with "
            "method lora",
            reason="NO_BAD_ANSWERS", field="recipe.method",
        )  # fmt: skip
    examples = list(render(language.tokenizer, ((name, talk) for name, talk, _ in told), language.stops))
    for at, (other, (_, _, good)) in enumerate(zip(_others(len(told)), told, strict=True)):
        yield Item(examples[at].row_id, (examples[at], _crossed(examples[at], examples[other])), good=good)


class Verdicts(Objective):
    """Ethayarajh and others (2024), eq. 8; the divergence is the step's mean over mismatched answers, at least 0."""

    def __init__(self, job: Job, machine: Machine) -> None:
        self._recipe = cast("KtoRecipe", job.recipe)
        self._kept_in = Path(job.workspace) / "reference"
        self._device = machine.device
        self._reference = torch.empty(0)
        self._good = torch.empty(0, dtype=torch.bool)
        self._divergence = 0.0

    def settle(self, learner: Learner, items: Sequence[Item], language: Language) -> None:
        """The log-probabilities that the model as it begins gives to every answer and its mismatched one."""
        found = kept(
            self._kept_in, "kto", items,
            lambda: reference_log_probs(learner, items, self._recipe.batch_size, language),
        )  # fmt: skip
        self._reference = found["log_probs"].to(self._device)
        self._good = torch.tensor([item.good for item in items], device=self._device)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def ahead(self, learner: Learner, batch: Batch) -> float:
        """How far the model has moved on the mismatched answers."""
        moved = sequence_log_probs(learner, every_other(batch, 1)) - self._reference[list(batch.items)][:, 1]
        return float(moved.sum().item())

    def open_step(self, ahead: float) -> None:
        """Keep the divergence."""
        self._divergence = max(0.0, ahead)

    def weight(self, batches: Sequence[Batch]) -> float:
        """Answers."""
        return float(sum(len(batch.items) for batch in batches))

    def loss(self, learner: Learner, batch: Batch) -> torch.Tensor:
        """Sum over the answers."""
        chosen = list(batch.items)
        gained = sequence_log_probs(learner, every_other(batch)) - self._reference[chosen][:, 0]
        good = self._good[chosen]
        beta = self._recipe.beta
        value = torch.sigmoid(torch.where(good, beta * (gained - self._divergence), beta * (self._divergence - gained)))
        weight = torch.where(good, self._recipe.good_weight, self._recipe.bad_weight)
        return (weight * (1 - value)).sum()


def _others(count: int) -> list[int]:
    """For each of `count` rows another one: a cycle through all of them in a fixed random order."""
    order = list(range(count))
    random.Random(f"pawl/kto/{count}").shuffle(order)
    following = dict(zip(order, [*order[1:], order[0]], strict=True))
    return [following[at] for at in range(count)]


def _crossed(asked: Example, answered: Example) -> Example:
    start, other = asked.trained.index(True), answered.trained.index(True)
    tokens = asked.tokens[:start] + answered.tokens[other:]
    return Example(asked.row_id, tokens, asked.trained[:start] + answered.trained[other:])
