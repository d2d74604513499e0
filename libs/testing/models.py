"""Tiny seeded bases and adapters on disk, made without torch: real files for a real engine, in milliseconds."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from libs.contracts.ids import digest_bytes

HIDDEN, LAYERS, HEADS, HEAD_SIZE, INNER, MAX_TOKENS = 64, 2, 2, 32, 128, 512
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
SPECIAL = ("<pad>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{{- '<|bos|>' -}}{%- for m in messages -%}"
    "{%- if m['role'] not in ['system', 'user', 'assistant'] -%}{{ raise_exception('unknown role') }}{%- endif -%}"
    "{{- '<|' + m['role'] + '|>' + m['content'] + '<|end|>' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
Architecture = Literal["llama", "qwen3"]


def tiny_base(directory: Path, architecture: Architecture = "llama", *, seed: int = 0) -> Path:
    """Write a random base with byte-level tokenizer and chat template (about 0.1 M parameters); returns `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    size = _write_tokenizer(directory)
    _write_json(directory / "config.json", _config(architecture, size))
    _write_json(directory / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0})
    rng = np.random.default_rng(seed)
    weights = {name: _draw(rng, shape) for name, shape in base_shapes(size, architecture).items()}
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def tiny_adapter(
    base: Path,
    directory: Path,
    seed: int,
    *,
    base_digest: str,
    rank: int = 8,
    scale: float = 0.6,
    origin: Mapping[str, Any] | None = None,
) -> Path:
    """Write a LoRA adapter for a tiny base in PEFT's layout, with `pawl.json`; returns `directory`.

    Adapters of different seeds answer differently. `origin` adds to `pawl.json` or replaces what it says.
    """
    directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1000 + seed)
    weights: dict[str, Any] = {}
    for layer in range(LAYERS):
        for target in TARGETS:
            name = f"base_model.model.model.layers.{layer}.self_attn.{target}"
            weights[f"{name}.lora_A.weight"] = _draw(rng, (rank, HIDDEN), scale)
            weights[f"{name}.lora_B.weight"] = _draw(rng, (HIDDEN, rank), scale)
    save_file(weights, directory / "adapter_model.safetensors", metadata={"format": "pt"})
    _write_json(
        directory / "adapter_config.json",
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": "base",
            "r": rank,
            "lora_alpha": 2 * rank,
            "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": list(TARGETS),
            "modules_to_save": None,
            "use_dora": False,
            "use_rslora": False,
            "inference_mode": True,
        },
    )
    _write_json(
        directory / "pawl.json",
        {
            "base_digest": base_digest,
            "tokenizer_digest": digest_bytes((base / "tokenizer.json").read_bytes()),
            "template_digest": digest_bytes((base / "chat_template.jinja").read_bytes()),
            "run_id": f"run-{seed}",
            "dataset_digest": digest_bytes(b"dataset"),
            "rank": rank,
            **(origin or {}),
        },
    )
    return directory


def base_shapes(vocabulary: int, architecture: Architecture = "llama") -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights of a tiny base."""
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocabulary, HIDDEN),
        "model.norm.weight": (HIDDEN,),
    }
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        for projection in TARGETS:
            shapes[f"{prefix}.self_attn.{projection}.weight"] = (HIDDEN, HIDDEN)
        if architecture == "qwen3":
            shapes[f"{prefix}.self_attn.q_norm.weight"] = (HEAD_SIZE,)
            shapes[f"{prefix}.self_attn.k_norm.weight"] = (HEAD_SIZE,)
        shapes[f"{prefix}.mlp.gate_proj.weight"] = (INNER, HIDDEN)
        shapes[f"{prefix}.mlp.up_proj.weight"] = (INNER, HIDDEN)
        shapes[f"{prefix}.mlp.down_proj.weight"] = (HIDDEN, INNER)
        shapes[f"{prefix}.input_layernorm.weight"] = (HIDDEN,)
        shapes[f"{prefix}.post_attention_layernorm.weight"] = (HIDDEN,)
    return shapes


def _draw(rng: np.random.Generator, shape: tuple[int, ...], scale: float = 0.3) -> Any:
    # Norms start at one, as in any model; the rest is wide enough that greedy answers differ by adapter.
    if len(shape) == 1:
        return np.ones(shape, dtype=np.float32)
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def _config(architecture: Architecture, vocabulary: int) -> dict[str, Any]:
    shared: dict[str, Any] = {
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "head_dim": HEAD_SIZE,
        "max_position_embeddings": MAX_TOKENS,
        "vocab_size": vocabulary,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "attention_bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "dtype": "float32",
        "torch_dtype": "float32",
    }
    names = {"llama": ("LlamaForCausalLM", "llama"), "qwen3": ("Qwen3ForCausalLM", "qwen3")}
    architecture_name, model_type = names[architecture]
    return {"architectures": [architecture_name], "model_type": model_type, **shared}


def _write_tokenizer(directory: Path) -> int:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(directory / "tokenizer.json"))
    _write_json(
        directory / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|bos|>",
            "eos_token": "<|end|>",
            "pad_token": "<pad>",
            "model_max_length": MAX_TOKENS,
        },
    )
    (directory / "chat_template.jinja").write_text(TEMPLATE)
    return tokenizer.get_vocab_size()


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True))
