"""Bases of published shapes with random weights, as fast and as large as the published ones.

`python -m bench.training.shapes SHAPE DIRECTORY` writes one for serving. They have the example's tokenizer, and for
serving its vocabulary too, since every token may be drawn.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).parents[2] / "examples" / "support-triage" / "base"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")
SHAPES: dict[str, dict[str, Any]] = {
    "70b": {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "heads": 64, "kv": 8},
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "heads": 32, "kv": 8},
    "3b": {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28, "heads": 24, "kv": 8},
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "heads": 32, "kv": 8},
    "tiny": {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "heads": 4, "kv": 2},
}
"""Llama 3's; `tiny` is for trying a benchmark out."""
VOCABULARY = 128256
SHARD = 4 << 30


def config(shape: str, vocabulary: int = VOCABULARY) -> Any:
    """Its configuration for transformers."""
    from transformers import LlamaConfig

    held = SHAPES[shape]
    said = json.loads((EXAMPLE / "config.json").read_text())
    return LlamaConfig(
        hidden_size=held["hidden_size"], intermediate_size=held["intermediate_size"],
        num_hidden_layers=held["num_hidden_layers"], num_attention_heads=held["heads"],
        num_key_value_heads=held["kv"], vocab_size=vocabulary, max_position_embeddings=8192, rope_theta=5e5,
        tie_word_embeddings=shape == "1b", **{name: said[name] for name in ("bos_token_id", "eos_token_id")},
    )  # fmt: skip


def write_base(directory: Path, shape: str, vocabulary: int = VOCABULARY, shard: int = SHARD) -> None:
    """Random weights, drawn where they are drawn fastest, `shard` bytes to a file."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    if (directory / "config.json").exists():
        return
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config(shape, vocabulary), dtype=torch.bfloat16)
    directory.mkdir(parents=True, exist_ok=True)
    for file in TOKENIZER:
        shutil.copyfile(EXAMPLE / file, directory / file)
    parts: list[dict[str, Any]] = [{}]
    size = 0
    for name, weight in empty.named_parameters():
        if size + 2 * weight.numel() > shard and parts[-1]:
            parts.append({})
            size = 0
        parts[-1][name] = weight
        size += 2 * weight.numel()
    index: dict[str, str] = {}
    for number, part in enumerate(parts):
        file = "model.safetensors" if len(parts) == 1 else f"model-{number:05d}.safetensors"
        save_file({name: _drawn(weight.shape) for name, weight in part.items()}, directory / file, {"format": "pt"})
        index |= dict.fromkeys(part, file)
    if len(parts) > 1:
        (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    config(shape, vocabulary).save_pretrained(directory)


def _drawn(shape: Any) -> Any:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    return torch.randn(shape, device=device, dtype=torch.bfloat16).mul_(0.02).cpu()


if __name__ == "__main__":
    own = json.loads((EXAMPLE / "config.json").read_text())["vocab_size"]
    write_base(Path(sys.argv[2]), sys.argv[1], own, shard=1 << 40)
