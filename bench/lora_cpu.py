"""LoRA decoding on CPU with vLLM's operators and with ours, side by side: `python -m bench.lora_cpu`."""

import time

import torch

from services.serving.engine.compute import cpu_lora

TOKENS, WIDTH, RANK, ADAPTERS, ROUNDS = 48, 704, 64, 3, 200


def main() -> None:
    """Time one expand and one shrink over a batch of 48 tokens and three adapters; prints microseconds per call."""
    from vllm.lora.ops import torch_ops

    torch.set_num_threads(1)
    torch.manual_seed(0)
    indices = torch.randint(0, ADAPTERS, (TOKENS,))
    down = torch.randn(6, 1, RANK, WIDTH, dtype=torch.bfloat16)
    up = torch.randn(6, 1, WIDTH, RANK, dtype=torch.bfloat16)
    x = torch.randn(TOKENS, WIDTH, dtype=torch.bfloat16)
    print(f"{'operators':<8} {'us per shrink and expand':>26}")
    for name, operators in (("vllm", torch_ops), ("ours", cpu_lora)):
        hidden, out = torch.zeros(TOKENS, RANK), torch.zeros(TOKENS, WIDTH, dtype=torch.bfloat16)
        begun = time.perf_counter()
        for _ in range(ROUNDS):
            operators.bgmv_shrink(x, down, hidden, indices, 1.0)
            operators.bgmv_expand(hidden, up, out, indices, True)
        print(f"{name:<8} {(time.perf_counter() - begun) / ROUNDS * 1e6:>26.0f}")


if __name__ == "__main__":
    main()
