"""The untrained tiny base: a plain Llama whose first two layers start out as a copying circuit."""

import math

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from triage.base.tokenizer import BOS_ID, END_ID, PAD_ID, POSITIONS

HIDDEN, LAYERS, HEAD, THETA = 256, 4, 64, 1e6
CONTENT = 112  # columns of the embedding that tell tokens apart; one column after them is constant
SHIFT = 8  # distance from the constant column to where the previous token is written


def config(vocabulary: int) -> LlamaConfig:
    """The shape of the tiny base: 4.26M parameters at a vocabulary of 4,096."""
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        intermediate_size=HIDDEN * 11 // 4,
        num_hidden_layers=LAYERS,
        num_attention_heads=HIDDEN // HEAD,
        num_key_value_heads=HIDDEN // HEAD,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
        attn_implementation="sdpa",
        bos_token_id=BOS_ID,
        eos_token_id=END_ID,
        pad_token_id=PAD_ID,
    )


def build(vocabulary: int, seed: int) -> LlamaForCausalLM:
    """A model that already copies: about .8 top-1 on repeated random tokens before any training.

    Two heads of layer 0 attend to the previous token; two heads of layer 1 look for the place where the present token
    was seen as a previous one, and copy what stands there: the induction heads of Olsson et al. 2022
    (arXiv 2209.11895), written down instead of waited for. Other heads start at random.
    """
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config(vocabulary))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                std = 0.02 if "embed" in name else 0.7 / math.sqrt(parameter.shape[1])
                torch.nn.init.normal_(parameter, 0.0, std)
                if "o_proj" in name or "down_proj" in name:
                    parameter.mul_(0.5 / math.sqrt(2 * LAYERS))
        _embed(model, vocabulary)
        for head in (0, 1):
            _previous_token(model, head)
            _induction(model, head)
    return model


def _embed(model: LlamaForCausalLM, vocabulary: int) -> None:
    weight = model.model.embed_tokens.weight
    weight[:, CONTENT + 1 :] *= 0.05
    weight[:, :CONTENT] = torch.randn(vocabulary, CONTENT) * 0.04
    weight[:, CONTENT] = 0.08


def _frequencies() -> torch.Tensor:
    half = HEAD // 2
    return THETA ** (-torch.arange(half) / half)


def _rotated(vector: torch.Tensor, position: float) -> torch.Tensor:
    """The rotary embedding at a position, in the layout where dimension i pairs with i + HEAD / 2."""
    half = HEAD // 2
    first, second = vector[:half], vector[half:]
    cos, sin = torch.cos(position * _frequencies()), torch.sin(position * _frequencies())
    return torch.cat([first * cos - second * sin, second * cos + first * sin])


def _clear(layer: int, rows: slice, model: LlamaForCausalLM) -> None:
    attention = model.model.layers[layer].self_attn
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        projection.weight[rows] = 0
    attention.o_proj.weight[:, rows] = 0


def _previous_token(model: LlamaForCausalLM, head: int) -> None:
    """Attend by position alone to the token before, and write its content beside the present one."""
    attention = model.model.layers[0].self_attn
    rows, half, part = slice(head * HEAD, (head + 1) * HEAD), HEAD // 2, CONTENT // 2
    _clear(0, rows, model)
    fast = (_frequencies() > 0.05).float()
    direction = torch.cat([fast, torch.zeros(half)])
    direction /= direction.norm()
    attention.q_proj.weight[rows, CONTENT] = _rotated(direction, -1.0) * 6.0
    attention.k_proj.weight[rows, CONTENT] = direction * 6.0
    for i in range(part):
        attention.v_proj.weight[head * HEAD + i, head * part + i] = 1.0
        attention.o_proj.weight[CONTENT + SHIFT + head * part + i, head * HEAD + i] = 0.10


def _induction(model: LlamaForCausalLM, head: int) -> None:
    """Match the present token with what stood before each place, in slow dimensions, and copy from there."""
    attention = model.model.layers[1].self_attn
    rows, half, part = slice(head * HEAD, (head + 1) * HEAD), HEAD // 2, CONTENT // 2
    _clear(1, rows, model)
    slow = torch.nonzero(_frequencies() < 0.01).flatten()
    dims = torch.cat([slow, slow + half])
    match = torch.randn(len(dims), CONTENT) / math.sqrt(CONTENT) * 2.2
    here = (head * HEAD + dims).unsqueeze(1)
    attention.q_proj.weight[here, torch.arange(CONTENT).unsqueeze(0)] = match
    attention.k_proj.weight[here, (CONTENT + SHIFT + torch.arange(CONTENT)).unsqueeze(0)] = match
    for i in range(part):
        attention.v_proj.weight[head * HEAD + i, head * part + i] = 1.0
        attention.o_proj.weight[head * part + i, head * HEAD + i] = 0.30
