"""Tiny random base models, written without any deep-learning library: real files that real loaders load."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

HIDDEN = 64
LAYERS = 2
HEADS = 4
HEAD_SIZE = 16
FEED_FORWARD = 128
CONTEXT = 1024
SPECIAL = ("<pad>", "<|bos|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|assistant|>{% generation %}{{ m.content }}<|end|>"
    "{% endgeneration %}{% else %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}


def tiny_base(directory: Path, *, architecture: str = "llama", seed: int = 0) -> Path:
    """Write a random causal LM of about 100,000 parameters as a Hugging Face model directory and return it.

    Bytes are tokens, so any text works; the chat template marks the assistant's part for training.

    Args:
        directory: Created if missing.
        architecture: `llama` or `qwen3`.
        seed: Of the weights; same seed, same bytes.
    """
    if architecture not in _ARCHITECTURES:
        raise ValueError(f"architecture must be one of {', '.join(_ARCHITECTURES)}, not {architecture!r}")
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer()
    vocabulary = len(tokenizer["model"]["vocab"])
    _write(directory / "tokenizer.json", tokenizer)
    _write(
        directory / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|bos|>",
            "eos_token": "<|end|>",
            "pad_token": "<pad>",
            "model_max_length": CONTEXT,
        },
    )
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    _write(directory / "config.json", _config(architecture, vocabulary))
    _write(directory / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0})
    save_file(_weights(architecture, vocabulary, seed), directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def _config(architecture: str, vocabulary: int) -> dict[str, Any]:
    return {
        "architectures": [_ARCHITECTURES[architecture]],
        "model_type": architecture,
        "hidden_size": HIDDEN,
        "intermediate_size": FEED_FORWARD,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS // 2,
        "head_dim": HEAD_SIZE,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10_000.0,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "vocab_size": vocabulary,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "dtype": "float32",
    }


def _weights(architecture: str, vocabulary: int, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> Any:
        return random.normal(0.0, 0.05, (rows, columns)).astype(np.float32)

    def ones(size: int) -> Any:
        return np.ones(size, np.float32)

    query, key = HEADS * HEAD_SIZE, HEADS // 2 * HEAD_SIZE
    weights = {"model.embed_tokens.weight": matrix(vocabulary, HIDDEN), "model.norm.weight": ones(HIDDEN)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        weights |= {
            f"{at}.self_attn.q_proj.weight": matrix(query, HIDDEN),
            f"{at}.self_attn.k_proj.weight": matrix(key, HIDDEN),
            f"{at}.self_attn.v_proj.weight": matrix(key, HIDDEN),
            f"{at}.self_attn.o_proj.weight": matrix(HIDDEN, query),
            f"{at}.mlp.gate_proj.weight": matrix(FEED_FORWARD, HIDDEN),
            f"{at}.mlp.up_proj.weight": matrix(FEED_FORWARD, HIDDEN),
            f"{at}.mlp.down_proj.weight": matrix(HIDDEN, FEED_FORWARD),
            f"{at}.input_layernorm.weight": ones(HIDDEN),
            f"{at}.post_attention_layernorm.weight": ones(HIDDEN),
        }
        if architecture == "qwen3":
            weights |= {f"{at}.self_attn.{name}_norm.weight": ones(HEAD_SIZE) for name in ("q", "k")}
    return weights


def _tokenizer() -> dict[str, Any]:
    letters = sorted(_byte_letters().values())
    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *letters))}
    added = [
        {
            "id": number, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True,
        }
        for number, token in enumerate(SPECIAL)
    ]  # fmt: skip
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": vocabulary, "merges": [],
        },
    }  # fmt: skip


def _byte_letters() -> dict[int, str]:
    """A printable letter for every byte, as byte-level BPE has it (Radford et al., 2019)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + at) for at, byte in enumerate(others)}


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
