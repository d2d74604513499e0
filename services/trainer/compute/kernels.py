"""What a model computes with: which attention, whose kernels, and whether activations are kept or computed twice."""

import importlib.util
from contextlib import ExitStack
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from services.trainer.compute.machine import Machine

_SHORT = 1024
_HOPPER = (9, 0)
_ORDER = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
_for_good = ExitStack()
_ROOM = 0.8
"""Share of a GPU that weights and one row may take before its activations are computed twice in place of being kept."""


def is_long(max_length: int) -> bool:
    """Whether rows of this length pay for the fused attention kernel."""
    return max_length > _SHORT


def attention_of(machine: Machine, long: bool) -> str:
    """Which attention a model computes with: on a GPU flash attention where it is installed.

    The fused kernel's backward pass on a CPU is slower than plain products, until their memory becomes the matter.
    """
    if machine.device.type == "cpu":
        return "sdpa" if long else "eager"
    return "flash_attention_2" if machine.autocast and importlib.util.find_spec("flash_attn") else "sdpa"


def recomputes(config: Any, weights: int, tokens: int, memory: int) -> bool:
    """Whether one row of `tokens` beside `weights` bytes leaves too little of `memory` bytes to keep activations.

    A layer keeps about 2 (8 h + 4 kv + 5 f) bytes a token. A batch of several rows is cut before it comes to that.
    """
    inner = config.get_text_config()
    heads = int(inner.num_attention_heads)
    size = int(getattr(inner, "head_dim", None) or inner.hidden_size // heads)
    kept = int(getattr(inner, "num_key_value_heads", None) or heads) * size
    wide = int(getattr(inner, "intermediate_size", None) or 4 * inner.hidden_size)
    row = 2 * tokens * (8 * int(inner.hidden_size) + 4 * kept + 5 * wide) * int(inner.num_hidden_layers)
    return weights + row > _ROOM * memory


def recompute(model: Any) -> None:
    """Have a model compute activations twice."""
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()


def prefer_fast_attention(machine: Machine) -> None:
    """From now on have `sdpa` take cuDNN's kernel first on GPUs from Hopper on, where that is the fastest.

    For the whole process: activations computed again in the backward pass must take the same kernel.
    """
    if machine.device.type == "cuda" and torch.cuda.get_device_capability(machine.device) >= _HOPPER:
        _for_good.enter_context(sdpa_kernel(_ORDER, set_priority=True))


def fit_out(model: Any, machine: Machine, tokens: int, states: int) -> None:
    """Prepare a model on a GPU for rows of `tokens`; `states` tensors are held per weight (4 where all are trained)."""
    if machine.device.type != "cuda":
        return
    prefer_fast_attention(machine)
    if importlib.util.find_spec("liger_kernel"):
        from liger_kernel.transformers import _apply_liger_kernel_to_instance

        # The loss stays ours: it never sees the tokens that are not trained.
        _apply_liger_kernel_to_instance(model, fused_linear_cross_entropy=False, cross_entropy=False)
    held = states * sum(weight.numel() * weight.element_size() for weight in model.parameters()) // machine.shards
    total = int(torch.cuda.get_device_properties(machine.device).total_memory)
    if recomputes(model.config, held, tokens, total):
        recompute(model)
