"""The LoRA products that take the place of vLLM's on CPU."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from services.serving.engine.compute import cpu_lora
from services.serving.engine.compute.cpu_groups import Groups
from services.serving.engine.compute.cpu_lora import (
    add_lora_embedding,
    add_lora_linear,
    add_lora_logits,
    side_by_side,
    use_grouped_products,
)

SLOTS, RANK, WIDTH, SLICES = 4, 4, 8, (5, 3)
BATCHES = [
    [0, 0, 0, 0],
    [0, 2, 1, 2],
    [2, -1, 0, -1],
    [-1, -1, -1, -1],
    [1],
    [3, 1, -1, 0, 1, 3, 3],
    [0, 1, *[2] * 9, 3, 1, 2],
    [0, 1, 3, *[2] * 9, -1, *[1] * 10, 2],
    [*[0, 1] * 9, 2, 3],
]


def wrapper(indices: list[int], slots: int = SLOTS) -> Any:
    groups = Groups(torch.tensor(indices), slots)
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


def test_the_first_weights_of_a_fused_layer_lie_side_by_side_and_stay_its_own() -> None:
    torch.manual_seed(4)
    parts = tuple(weights(RANK, WIDTH) for _ in SLICES)
    before = [each.clone() for each in parts]
    whole = side_by_side(parts)
    assert whole.shape == (SLOTS, 1, len(SLICES) * RANK, WIDTH)
    assert side_by_side(parts) is whole
    for part, held in zip(parts, before, strict=True):
        torch.testing.assert_close(part, held)
    parts[1][2, 0] = 7.0
    assert (whole[2, 0, RANK:] == 7.0).all()
    assert not (whole[2, 0, :RANK] == 7.0).any()


def test_a_layer_without_weights_costs_nothing_until_vllm_gives_it_some() -> None:
    from vllm.lora.layers import BaseLayerWithLoRA

    class Layer(BaseLayerWithLoRA):  # type: ignore[misc]
        def set_lora(self, index: int, lora_a: Any, lora_b: Any) -> None:
            self.lora_b_stacked[1][index] = lora_b

    torch.manual_seed(5)
    x, a, b = torch.randn(2, WIDTH), weights(RANK, WIDTH), [torch.zeros(SLOTS, 1, WIDTH, RANK) for _ in range(2)]
    use_grouped_products()
    layer = Layer()
    layer.lora_b_stacked = tuple(b)
    y = torch.zeros(2, 2 * WIDTH)
    asked = SimpleNamespace()
    add_lora_linear(asked, y, x, (a, a.clone()), tuple(b), 1.0, (WIDTH, WIDTH))
    layer.set_lora(1, None, 1.0)
    with pytest.raises(AttributeError, match="token_groups"):
        add_lora_linear(asked, y, x, (a, a.clone()), tuple(b), 1.0, (WIDTH, WIDTH))
    add_lora_linear(wrapper([0, 1]), y, x, (a, a.clone()), tuple(b), 1.0, (WIDTH, WIDTH))
    assert y[1, WIDTH:].any()
    assert not y[0].any()
    assert not y[1, :WIDTH].any()
