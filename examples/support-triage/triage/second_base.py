"""Write a randomly initialised Qwen3-shaped model with the tiny base's tokenizer: `python -m triage.second_base`."""

import argparse
import shutil
import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM
from transformers.utils import logging

BASE = Path(__file__).parents[1] / "base"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def second_base(out: Path, seed: int, base: Path = BASE) -> Qwen3ForCausalLM:
    """The model written to `out`; the same for the same seed. It knows nothing and shows another architecture works."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(config).to(torch.bfloat16)
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    for name in TOKENIZER_FILES:
        shutil.copyfile(base / name, out / name)
    return model


def main(arguments: list[str] | None = None) -> int:
    """Parse the options and write the model."""
    parser = argparse.ArgumentParser(prog="python -m triage.second_base", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory to write the model to")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args(arguments)
    logging.disable_progress_bar()
    model = second_base(options.out, options.seed)
    print(f"wrote {options.out}: {model.num_parameters() / 1e6:.2f}M parameters")
    return 0


if __name__ == "__main__":
    sys.exit(main())
