"""The validation split during a run: its loss, the best weights, and answers to look at."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from libs.contracts.task.recipe import SampleSpec
from services.trainer.compute.examples import Example, Item
from services.trainer.compute.learner import Learner
from services.trainer.compute.methods import Language, Objective
from services.trainer.compute.methods.reference import in_batches
from services.trainer.domain.protocol import Sample
from services.trainer.domain.watch import Patience

Weights = dict[str, torch.Tensor]


class Validation:
    """Measures the objective on held-out items and keeps the weights it was least at.

    Args:
        objective: One of its own, settled on `items` before training.
        items: Of the validation split.
        patience: What it has seen so far.
        at_once: Items in one batch.
        language: For padding.
    """

    def __init__(
        self, objective: Objective, items: Sequence[Item], patience: Patience, at_once: int, language: Language
    ) -> None:
        self.patience = patience
        self.best: Weights = {}
        self._objective = objective
        self._items = items
        self._at_once = at_once
        self._language = language

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def measure(self, learner: Learner) -> float:
        """Loss per token or per pair, as the objective counts."""
        learner.model.eval()
        weight: float = 0.0
        total: float = 0.0
        for batch in in_batches(self._items, self._at_once, self._language, learner.machine.device):
            counted = self._objective.weight([batch])
            self._objective.open_step(self._objective.ahead(learner, batch) / counted)
            total += self._objective.loss(learner, batch).item()
            weight += counted
        learner.model.train()
        return total / weight

    def see(self, learner: Learner, step: int) -> float:
        """Measure, and keep the weights if they are the best and the best are wanted."""
        # Rounded as it is kept in checkpoints, so that a resumed run compares the same numbers.
        loss: float = round(self.measure(learner), 6)
        if self.patience.add(step, loss) and self.patience.allowed is not None:
            whole = learner.placement.gather(dict(learner.trainable())) or {}
            self.best = {name: weight.clone() for name, weight in whole.items()}
        return loss

    def restore_best(self, learner: Learner) -> None:
        """Put the best weights back, where they were kept."""
        if self.patience.allowed is None or not self.patience.best_step:
            return
        for name, weight in learner.trainable():
            learner.placement.put(weight, self.best.get(name))


@torch.no_grad()  # type: ignore[untyped-decorator]
def write_samples(learner: Learner, items: Sequence[Item], spec: SampleSpec, language: Language) -> list[Sample]:
    """Greedy answers to the questions of the first items, beside the answers they should be."""
    learner.model.eval()
    made = []
    for item in items[: spec.rows]:
        asked, answer = _cut(item.sequences[0])
        prompt = torch.tensor([asked], device=learner.machine.device)
        with torch.autocast(learner.machine.device.type, torch.bfloat16, enabled=learner.machine.autocast):
            out = learner.placement.within(
                partial(
                    learner.model.generate, input_ids=prompt, attention_mask=torch.ones_like(prompt),
                    max_new_tokens=spec.max_tokens, do_sample=False, pad_token_id=language.pad,
                    eos_token_id=sorted(language.stops),
                )
            )  # fmt: skip
        tokenizer: Any = language.tokenizer
        made.append(
            Sample(
                row_id=item.item_id,
                said=tokenizer.decode(out[0, len(asked) :], skip_special_tokens=False),
                wanted=tokenizer.decode(answer, skip_special_tokens=False),
            )
        )
    learner.model.train()
    return made


def _cut(example: Example) -> tuple[list[int], list[int]]:
    start = example.trained.index(True)
    return list(example.tokens[:start]), list(example.tokens[start:])
