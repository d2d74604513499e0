"""LoRA layers side by side are one step of the graph, with the sums of PEFT's own and nothing left behind."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from services.trainer.compute.fused import forget, fuse

PER_LAYER = 7


def model_of(*, bias: bool = False) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=50, attention_bias=bias,
    )  # fmt: skip
    made = get_peft_model(LlamaForCausalLM(config), LoraConfig(r=4, lora_alpha=12, target_modules="all-linear"))
    for name, weight in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return made


def step(model: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    ids = torch.arange(24).reshape(2, 12)
    logits = model(input_ids=ids).logits
    model.zero_grad()
    logits.square().mean().backward()
    return logits.detach(), {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("bias", [False, True])
def test_answers_and_gradients_are_those_of_the_layers_one_by_one(bias: bool) -> None:
    plain, short = model_of(bias=bias), model_of(bias=bias)
    assert fuse(short) == 2 * PER_LAYER
    (wanted, its), (found, ours) = step(plain), step(short)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert ours.keys() == its.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, its[name], rtol=1e-3, atol=1e-6, msg=name)


def test_an_input_that_comes_again_is_computed_again() -> None:
    model = model_of()
    fuse(model)
    attention = model.get_base_model().model.layers[0].self_attn
    x = torch.randn(1, 3, 32)
    before = attention.q_proj(x)
    with torch.no_grad():
        attention.q_proj.lora_B["default"].weight.mul_(2.0)
    assert not torch.equal(attention.q_proj(x), before)


def test_a_pass_that_broke_off_leaves_nothing_once_it_is_told_to_forget() -> None:
    model = model_of()
    fuse(model)
    attention = model.get_base_model().model.layers[0].self_attn
    attention.q_proj(torch.randn(1, 3, 32))
    assert attention.k_proj.forward.together._waiting
    forget(model)
    assert not attention.k_proj.forward.together._waiting


def test_the_base_alone_is_asked_the_long_way() -> None:
    plain, short = model_of(), model_of()
    fuse(short)
    with plain.disable_adapter(), short.disable_adapter():
        ids = torch.arange(6)[None]
        torch.testing.assert_close(short(input_ids=ids).logits, plain(input_ids=ids).logits)
