"""Distillation from a teacher's weights: its distribution over each answer token, mixed with the row's own answer."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch

from libs.contracts.errors import FailedPrecondition
from libs.contracts.task.recipe import DistilLogitsRecipe
from services.trainer.compute.bases import check_base, load_model, load_tokenizer
from services.trainer.compute.batches import Batch
from services.trainer.compute.examples import Item
from services.trainer.compute.learner import Learner
from services.trainer.compute.machine import Machine
from services.trainer.compute.methods.reference import Kept, in_batches, kept
from services.trainer.compute.methods.shape import Language, Objective
from services.trainer.domain.protocol import Job

_SMALLEST = 1e-8


class Distillation(Objective):
    """Hinton and others (2015): mix · T² · KL(teacher || student) at temperature T, plus (1 - mix) · cross-entropy.

    The teacher's `top_k` likeliest tokens keep their probabilities; all others are one bucket, on both sides. They are
    computed before the student trains, so that teacher and student never share the memory.
    """

    def __init__(self, job: Job, machine: Machine) -> None:
        self._recipe = cast("DistilLogitsRecipe", job.recipe)
        self._teacher = Path(job.teacher or "")
        self._machine = machine
        self._kept_in = Path(job.workspace) / "reference"
        self._starts = torch.empty(0)
        self._ids = torch.empty(0)
        self._log_probs = torch.empty(0)

    def settle(self, learner: Learner, items: Sequence[Item], language: Language) -> None:
        """Ask the teacher. Raises FailedPrecondition when it speaks another vocabulary."""
        if learner.machine != self._machine:
            raise FailedPrecondition("teacher and student are on different machines", reason="DEVICE_MIXED")
        counts = [sum(sum(sequence.trained) for sequence in item.sequences) for item in items]
        self._starts = torch.tensor([0, *counts]).cumsum(0)
        found = kept(self._kept_in, "teacher", items, lambda: self._ask(items, language))
        self._ids, self._log_probs = found["ids"], found["log_probs"]

    def weight(self, batches: Sequence[Batch]) -> float:
        """Trained tokens."""
        return float(sum(batch.trained for batch in batches))

    def loss(self, learner: Learner, batch: Batch) -> torch.Tensor:
        """Sum over the trained tokens."""
        logits = learner.logits(batch)
        own = torch.nn.functional.cross_entropy(logits, batch.targets, reduction="sum")
        heat = self._recipe.temperature
        at = torch.cat([torch.arange(int(self._starts[i]), int(self._starts[i + 1])) for i in batch.items])
        ids, taught = self._ids[at].long().to(logits.device), self._log_probs[at].to(logits.device)
        said = torch.log_softmax(logits / heat, dim=-1).gather(1, ids)
        said = torch.cat([said, _rest(said)], dim=1)
        divergence = (taught.exp() * (taught - said)).sum()
        return self._recipe.mix * heat**2 * divergence + (1 - self._recipe.mix) * own

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _ask(self, items: Sequence[Item], language: Language) -> Kept:
        check_base(self._teacher, what="the teacher")
        same_vocabulary(language.tokenizer, load_tokenizer(self._teacher, what="the teacher")[0])
        machine = replace(self._machine, shards=1)
        model = load_model(self._teacher, machine, tokens=self._recipe.max_length, what="the teacher").eval()
        teacher = Learner(model, machine)
        total = int(self._starts[-1])
        width = min(self._recipe.top_k, model.config.vocab_size - 1)
        ids, log_probs = torch.zeros(total, width, dtype=torch.int32), torch.zeros(total, width + 1)
        for batch in in_batches(items, self._recipe.batch_size, language, self._machine.device):
            probable = torch.log_softmax(teacher.logits(batch) / self._recipe.temperature, dim=-1)
            best, which = probable.topk(width, dim=-1)
            at = torch.cat([torch.arange(int(self._starts[i]), int(self._starts[i + 1])) for i in batch.items])
            ids[at] = which.cpu().int()
            log_probs[at] = torch.cat([best, _rest(best)], dim=1).cpu()
        return {"ids": ids, "log_probs": log_probs}


def same_vocabulary(student: object, teacher: object) -> None:
    """Refuse a teacher whose token ids mean other tokens than the student's, naming the first that does."""
    ours, theirs = student.get_vocab(), teacher.get_vocab()  # type: ignore[attr-defined]
    if ours == theirs:
        return
    odd = min((set(ours.items()) ^ set(theirs.items())), key=lambda pair: (pair[1], pair[0]))
    raise FailedPrecondition(
        f"the teacher has another vocabulary ({len(theirs)} tokens, the student {len(ours)}; first difference: token "
        f"{odd[1]}, {odd[0]!r}): take one of the same family, or method distil-sequence, which needs only its text",
        reason="TEACHER_VOCABULARY", field="recipe.teacher",
    )  # fmt: skip


def _rest(log_probs: torch.Tensor) -> torch.Tensor:
    """Log of the probability that the given ones leave over: [tokens, 1]."""
    return torch.log((1 - log_probs.exp().sum(dim=-1, keepdim=True)).clamp(min=_SMALLEST))
