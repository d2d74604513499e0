"""The LoRA products that take the place of vLLM's on CPU."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from services.serving.engine.compute import cpu_lora
from services.serving.engine.compute.cpu_lora import add_lora_embedding, add_lora_linear, add_lora_logits, groups_of

SLOTS, RANK, WIDTH, SLICES = 4, 4, 8, (5, 3)
BATCHES = [
    [0, 0, 0, 0],
    [0, 2, 1, 2],
    [2, -1, 0, -1],
    [-1, -1, -1, -1],
    [1],
    [3, 1, -1, 0, 1, 3, 3],
    [0, 1, *[2] * 9, 3, 1, 2],
]


def wrapper(indices: list[int], slots: int = SLOTS) -> Any:
    groups = groups_of(torch.tensor(indices), slots)
    return SimpleNamespace(token_groups=groups, sampled_groups=groups)


def weights(*shape: int, slots: int = SLOTS) -> torch.Tensor:
    return torch.randn(slots, 1, *shape)


@pytest.mark.parametrize("slots", [SLOTS, 9 * SLOTS])
@pytest.mark.parametrize("indices", BATCHES)
def test_each_token_gets_the_product_of_its_own_adapter_and_one_without_gets_nothing(
    indices: list[int], slots: int
) -> None:
    torch.manual_seed(0)
    x, before = torch.randn(len(indices), WIDTH), torch.randn(len(indices), sum(SLICES))
    a = [weights(RANK, WIDTH, slots=slots) for _ in SLICES]
    b = [weights(size, RANK, slots=slots) for size in SLICES]
    expected = before.clone()
    for row, slot in enumerate(indices):
        if slot >= 0:
            parts = [0.5 * (up[slot, 0] @ (down[slot, 0] @ x[row])) for down, up in zip(a, b, strict=True)]
            expected[row] += torch.cat(parts)
    after = before.clone()
    add_lora_linear(wrapper(indices, slots), after, x, tuple(a), tuple(b), 0.5, SLICES)
    torch.testing.assert_close(after, expected)


def test_the_products_agree_with_those_they_replace() -> None:
    from vllm.lora.ops import torch_ops

    torch.manual_seed(1)
    indices = [0, 1, 1, 2, 0, 2]
    x, a, b = torch.randn(6, WIDTH), weights(RANK, WIDTH), weights(WIDTH, RANK)
    low, theirs = torch.zeros(6, RANK), torch.ones(6, WIDTH)
    torch_ops.bgmv_shrink(x, a.squeeze(1), low, torch.tensor(indices), 0.5)
    torch_ops.bgmv_expand(low, b.squeeze(1), theirs, torch.tensor(indices))
    ours = torch.ones(6, WIDTH)
    add_lora_logits(wrapper(indices), ours, x, a, b, 0.5)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("indices", BATCHES)
def test_products_of_many_adapters_at_once_are_those_of_one_after_the_other(
    indices: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    x, a, b = torch.randn(len(indices), WIDTH), weights(RANK, WIDTH), weights(WIDTH, RANK)
    together, apart = torch.zeros(len(indices), WIDTH + 2), torch.zeros(len(indices), WIDTH + 2)
    add_lora_logits(wrapper(indices), together, x, a, b, 0.5)
    monkeypatch.setattr(cpu_lora, "_SMALL_BYTES", 0)
    add_lora_logits(wrapper(indices), apart, x, a, b, 0.5)
    torch.testing.assert_close(together, apart)


@pytest.mark.parametrize("indices", BATCHES)
def test_an_embedding_needs_only_the_second_product(indices: list[int]) -> None:
    torch.manual_seed(2)
    x, b = torch.randn(len(indices), RANK), weights(WIDTH, RANK)
    ours = torch.zeros(len(indices), WIDTH)
    add_lora_embedding(wrapper(indices), ours, x, b)
    expected = [b[slot, 0] @ row if slot >= 0 else torch.zeros(WIDTH) for slot, row in zip(indices, x, strict=True)]
    torch.testing.assert_close(ours, torch.stack(expected))
