"""A model in training: its trainable weights and the log-probabilities of the tokens it is trained on."""

import math
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from services.trainer.compute.batches import Batch
from services.trainer.compute.head import is_plain, token_losses
from services.trainer.compute.machine import Machine
from services.trainer.compute.placement import Placement, Whole

_CHUNK_LOGITS = {"cpu": 1 << 25, "cuda": 1 << 27}
"""Logits held at once, as numbers; beyond, the head runs over chunks. A GPU needs more of them to be busy."""


class Learner:
    """A model with trainable parameters: all of them, or a LoRA's.

    Args:
        model: Hugging Face causal model, or PEFT's around one.
        machine: Device and precision.
    """

    def __init__(self, model: Any, machine: Machine) -> None:
        self.model = model
        self.machine = machine
        self.plain = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._decoder = self.plain.get_decoder() if hasattr(self.plain, "get_decoder") else None
        self._head = self.plain.get_output_embeddings()
        self._short_cut = False
        self.placement: Placement = Whole()

    def trainable(self) -> list[tuple[str, torch.nn.Parameter]]:
        """Trained parameters by name, in a fixed order."""
        return [(name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad]

    @property
    def weights(self) -> int:
        """Numbers that the base consists of; where several are held in one byte, all of them."""
        frozen = (weight for name, weight in self.plain.named_parameters() if ".lora_" not in name)
        return sum(_whole(weight) for weight in frozen)

    def losses(self, batch: Batch) -> torch.Tensor:
        """Cross-entropy (nats, fp32) of each trained token, in the order of `batch.places`."""
        return self.placement.within(lambda: self._losses(batch))

    def _losses(self, batch: Batch) -> torch.Tensor:
        with self.reduced():
            if not self._short_cut:
                return _cross_entropy(self._whole(batch), batch.targets)
            hidden = self._hidden(batch)
            at_once = self._at_once()
            if len(hidden) <= at_once:
                return _cross_entropy(self._head(hidden), batch.targets)
            if is_plain(self._head):
                return token_losses(hidden, self._head.weight, batch.targets, at_once)
            parts = zip(hidden.split(at_once), batch.targets.split(at_once), strict=True)
            return torch.cat([checkpoint(self._part, *part, use_reentrant=False) for part in parts])

    def losses_and_divergences(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """What `losses` gives, and KL(base || model) (nats, fp32) at each trained token; a model with a LoRA only."""
        return self.placement.within(lambda: self._beside_base(batch))

    def _beside_base(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad(), self.reduced(), self.model.disable_adapter():
            before = self._hidden(batch) if self._short_cut else self._whole(batch)
        with self.reduced():
            now = self._hidden(batch) if self._short_cut else self._whole(batch)
            at_once = self._at_once()
            parts = zip(now.split(at_once), before.split(at_once), batch.targets.split(at_once), strict=True)
            found = [checkpoint(self._beside, *part, use_reentrant=False) for part in parts]
        return torch.cat([own for own, _ in found]), torch.cat([apart for _, apart in found])

    def logits(self, batch: Batch) -> torch.Tensor:
        """Logits [trained tokens, vocabulary], fp32."""

        def found() -> torch.Tensor:
            with self.reduced():
                return (self._head(self._hidden(batch)) if self._short_cut else self._whole(batch)).float()

        return self.placement.within(found)

    def try_short_cut(self, batch: Batch) -> bool:
        """Skip the head for tokens that are not trained, if that gives this model's own logits.

        Some architectures scale or cap logits after the head; they keep the long way.
        """
        if self._decoder is None or self._head is None or not hasattr(self._head, "weight"):
            return False
        few = batch.places[:8]
        if not len(few):
            return False

        def both() -> tuple[torch.Tensor, torch.Tensor]:
            with torch.no_grad(), self.reduced():
                return self._whole(batch)[:8].float(), self._head(self._hidden(batch)[:8]).float()

        whole, short = self.placement.within(both)
        # A model whose logits are not finite has no size to compare by; the loop will say what is wrong with it.
        size = float(whole.abs().max())
        self._short_cut = math.isfinite(size) and bool(torch.allclose(whole, short, rtol=1e-2, atol=1e-2 * size))
        return self._short_cut

    def assume_short_cut(self) -> None:
        """Skip the head for tokens that are not trained, untested."""
        self._short_cut = self._decoder is not None and hasattr(self._head, "weight")

    def _whole(self, batch: Batch) -> torch.Tensor:
        logits = self.model(input_ids=batch.tokens, **_layout(batch)).logits
        return logits.flatten(0, 1).index_select(0, batch.places)

    def _hidden(self, batch: Batch) -> torch.Tensor:
        assert self._decoder is not None
        hidden = self._decoder(input_ids=batch.tokens, **_layout(batch)).last_hidden_state
        return hidden.flatten(0, 1).index_select(0, batch.places)

    def _at_once(self) -> int:
        return max(1, _CHUNK_LOGITS[self.machine.device.type] // int(self._head.weight.shape[0]))

    def _beside(
        self, now: torch.Tensor, before: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self._short_cut:
            now, before = self._head(now), self._head(before)
        said, base = torch.log_softmax(now.float(), -1), torch.log_softmax(before.float(), -1)
        return -said.gather(1, targets[:, None])[:, 0], (base.exp() * (base - said)).sum(-1)

    def _part(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return _cross_entropy(self._head(hidden), targets)

    def reduced(self) -> torch.autocast:
        """Products in the machine's precision, while this lasts."""
        return torch.autocast(self.machine.device.type, torch.bfloat16, enabled=self.machine.autocast)


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits.float(), targets, reduction="none")


def _whole(weight: torch.Tensor) -> int:
    held = getattr(weight, "quant_state", None)
    return int(held.shape.numel()) if held is not None else weight.numel()


def _layout(batch: Batch) -> dict[str, Any]:
    # Rows are padded on the right and attention is causal, so no real token sees padding and no mask is needed. With
    # positions and neither mask nor cache, attention stays within each sequence of a row; with either it would not.
    layout: dict[str, Any] = {"use_cache": False}
    if batch.positions is not None:
        layout["position_ids"] = batch.positions
    return layout
