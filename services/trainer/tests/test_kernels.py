"""What a model computes with is chosen by what the machine has and what one row needs."""

import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig

from services.trainer.compute.kernels import attention_of, recomputes
from services.trainer.compute.machine import Machine

GIB = 1 << 30
EIGHT = LlamaConfig(
    hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8
)


@pytest.mark.parametrize(
    ("weights", "tokens", "memory", "twice"),
    [(16, 4096, 80, False), (16, 4096, 24, True), (16, 256, 24, False), (16, 16384, 80, True), (64, 512, 80, True)],
)
def test_activations_are_computed_twice_only_where_one_row_does_not_fit_beside_the_weights(
    weights: int, tokens: int, memory: int, twice: bool
) -> None:
    assert recomputes(EIGHT, weights * GIB, tokens, memory * GIB) is twice


def test_flash_attention_is_used_on_a_gpu_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    there: dict[str, Any] = {"flash_attn": SimpleNamespace()}
    monkeypatch.setattr(importlib.util, "find_spec", there.get)
    gpu, exact = (Machine(torch.device("cuda"), kind) for kind in (torch.bfloat16, torch.float32))
    cpu = Machine(torch.device("cpu"), torch.bfloat16)
    assert attention_of(gpu, long=True) == "flash_attention_2"
    assert attention_of(exact, long=True) == "sdpa", "it has no fp32"
    assert (attention_of(cpu, long=True), attention_of(cpu, long=False)) == ("sdpa", "eager")
    there.clear()
    assert attention_of(gpu, long=True) == "sdpa"
