import pytest
import torch

from services.serving.engine.compute.cpu_lora import bgmv_expand, bgmv_expand_slice, bgmv_shrink, grouped


@pytest.mark.parametrize("indices", [[0, 0, 0, 0], [0, 2, 1, 2], [2, -1, 0, -1], [-1, -1, -1, -1]])
def test_each_token_gets_the_product_of_its_own_adapter_and_one_without_gets_none(indices: list[int]) -> None:
    torch.manual_seed(0)
    inputs, weights = torch.randn(4, 8), torch.randn(3, 1, 5, 8)
    chosen = torch.tensor(indices)
    expected = torch.stack(
        [weights[slot, 0] @ row if slot >= 0 else torch.zeros(5) for row, slot in zip(inputs, indices, strict=True)]
    )
    torch.testing.assert_close(grouped(inputs, weights, chosen, torch.float32), expected)


def test_the_operators_agree_with_those_they_replace() -> None:
    from vllm.lora.ops import torch_ops

    torch.manual_seed(1)
    inputs, weights, indices = torch.randn(6, 8), torch.randn(3, 4, 8), torch.tensor([0, 1, 1, 2, 0, 2])
    ours, theirs = torch.zeros(6, 4), torch.zeros(6, 4)
    bgmv_shrink(inputs, weights, ours, indices, 0.5)
    torch_ops.bgmv_shrink(inputs, weights, theirs, indices, 0.5)
    torch.testing.assert_close(ours, theirs)
    ours, theirs = torch.ones(6, 7), torch.ones(6, 7)
    bgmv_expand(inputs, weights, ours, indices)
    torch_ops.bgmv_expand(inputs, weights, theirs, indices)
    torch.testing.assert_close(ours, theirs)
    bgmv_expand_slice(inputs, weights, ours, indices, 2, 4)
    torch_ops.bgmv_expand_slice(inputs, weights, theirs, indices, 2, 4)
    torch.testing.assert_close(ours, theirs)
