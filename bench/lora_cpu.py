"""LoRA products on CPU with vLLM's operators and with ours, side by side: `python -m bench lora_cpu`."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import torch

from services.serving.engine.compute import cpu_lora
from services.serving.engine.compute.cpu_groups import Groups

TOKENS, ROUNDS = 48, 200
SIZES = ((704, 64), (256, 16))
"""Width and rank."""
RESULTS = Path(__file__).parent / "results" / "lora_cpu.md"


def theirs(x: torch.Tensor, down: torch.Tensor, up: torch.Tensor, indices: torch.Tensor) -> None:
    """One shrink and one expand as vLLM's CPU operators do it."""
    from vllm.lora.ops import torch_ops

    hidden = torch.zeros(len(x), down.shape[-2])
    out = torch.zeros(len(x), up.shape[-2], dtype=x.dtype)
    torch_ops.bgmv_shrink(x, down, hidden, indices, 1.0)
    torch_ops.bgmv_expand(hidden, up, out, indices, True)


def ours(x: torch.Tensor, down: torch.Tensor, up: torch.Tensor, indices: torch.Tensor) -> None:
    """The same grouped by adapter, the grouping included, although it is done once for all layers of a step."""
    wrapper = SimpleNamespace(token_groups=Groups(indices, len(down)))
    out = torch.zeros(len(x), up.shape[-2], dtype=x.dtype)
    cpu_lora.add_lora_linear(wrapper, out, x, (down,), (up,), 1.0, (up.shape[-2],))


def main() -> None:
    """Time a batch of 48 tokens with 1, 3 and 32 adapters in it."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    lines = ["| width, rank | adapters in the batch | vLLM's operators, us | ours, us | ratio |", "|-|-|-|-|-|"]
    for width, rank in SIZES:
        x = torch.randn(TOKENS, width, dtype=torch.bfloat16)
        for adapters in (1, 3, 32):
            down = torch.randn(adapters, 1, rank, width, dtype=torch.bfloat16)
            up = torch.randn(adapters, 1, width, rank, dtype=torch.bfloat16)
            indices = torch.randint(0, adapters, (TOKENS,))
            took = []
            for products in (theirs, ours):
                products(x, down, up, indices)
                began = time.perf_counter()
                for _ in range(ROUNDS):
                    products(x, down, up, indices)
                took.append((time.perf_counter() - began) / ROUNDS * 1e6)
            lines.append(f"| {width}, {rank} | {adapters} | {took[0]:.0f} | {took[1]:.0f} | {took[0] / took[1]:.1f} |")
    told = f"{TOKENS} tokens, bfloat16, one thread: one product A and one product B."
    table = "\n".join(lines)
    sys.stdout.write(table + "\n")
    RESULTS.write_text(f"# LoRA products on CPU\n\n`python -m bench lora_cpu`\n\n{told}\n\n{table}\n")


if __name__ == "__main__":
    main()
