"""What both sides answer: seeded items, a base, an adapter of random weights."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from libs.contracts.ids import digest_bytes
from libs.contracts.inference import Message
from services.evaluator.domain.suite import Item
from services.evaluator.domain.suites.general import WORDS

FILLER = (
    "The printer on the second floor shows a red light and nobody can print since this morning.",
    "We tried another cable and started it again twice, without success.",
    "It is not urgent, but the whole team waits for it.",
)
RANK = 16
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")


def items(count: int) -> tuple[Item, ...]:
    """Questions and answers of about the length of the demo's: a ticket of 80 tokens, 30 to 45 to say."""
    made = []
    for number in range(count):
        rng = random.Random(f"bench/{number}")
        codes = [f"{rng.choice('ABCDEFGH')}{rng.choice('KMPRSTW')}-{rng.randint(10000, 99999)}" for _ in range(4)]
        text = " ".join((*codes, *rng.sample(WORDS, 3)))
        asked = Message(role="user", content=f"{' '.join(FILLER)} Repeat: {text}")
        name = f"bench-{number}"
        made.append(Item(name, (Message(role="system", content="Follow the request."), asked), text, None, name))
    return tuple(made)


def copy_base(source: Path, target: Path) -> Path:
    """The base's own files, without what is beside them."""
    target.mkdir(parents=True)
    for file in source.iterdir():
        if file.suffix in (".json", ".jinja", ".safetensors"):
            shutil.copyfile(file, target / file.name)
    return target


def random_adapter(base: Path, target: Path, base_digest: str, seed: int = 1) -> Path:
    """A LoRA adapter of rank 16 on all attention projections, small random weights: its speed is that of a real one."""
    target.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    weights: dict[str, Any] = {}
    with safe_open(base / "model.safetensors", framework="np") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - not a mapping
            module = name.removesuffix(".weight")
            if module.rpartition(".")[2] in TARGETS:
                out, into = tensors.get_slice(name).get_shape()
                prefix = f"base_model.model.{module}"
                weights[f"{prefix}.lora_A.weight"] = (rng.standard_normal((RANK, into)) * 0.02).astype(np.float32)
                weights[f"{prefix}.lora_B.weight"] = (rng.standard_normal((out, RANK)) * 0.02).astype(np.float32)
    save_file(weights, target / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "base", "r": RANK,
        "lora_alpha": 2 * RANK, "lora_dropout": 0.0, "bias": "none", "target_modules": list(TARGETS),
        "modules_to_save": None, "use_dora": False, "use_rslora": False, "inference_mode": True,
    }  # fmt: skip
    (target / "adapter_config.json").write_text(json.dumps(config))
    origin = {
        "base_digest": base_digest,
        "tokenizer_digest": digest_bytes((base / "tokenizer.json").read_bytes()),
        "template_digest": digest_bytes((base / "chat_template.jinja").read_bytes()),
        "run_id": "bench", "dataset_digest": digest_bytes(b"bench"), "rank": RANK,
    }  # fmt: skip
    (target / "pawl.json").write_text(json.dumps(origin))
    return target
