"""The adapter in plain peft and in vLLM, fp32, greedy: `python -m bench parity` counts equal answers to 200 prompts.

Every mismatch is looked at: where the two answers part, plain transformers says how far apart its two best tokens are.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.training.rows import BASE, RESULTS, ROOT, conversations, quiet, train, write_dataset

NEAR_TIE = 0.02
"""Nats between the best two tokens, within which fp32 sums in another order decide."""
BAR = 0.99


def in_vllm(adapter: Path, prompts: list[list[int]], tokens: int) -> list[list[int]]:
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    engine = LLM(
        str(BASE), dtype="float32", enable_lora=True, max_lora_rank=16, max_model_len=512, enforce_eager=True,
        max_num_seqs=32,
    )  # fmt: skip
    asked: list[Any] = [{"prompt_token_ids": prompt} for prompt in prompts]
    greedy = SamplingParams(temperature=0.0, max_tokens=tokens)
    out = engine.generate(asked, greedy, lora_request=LoRARequest("parity", 1, str(adapter)), use_tqdm=False)
    return [list(each.outputs[0].token_ids) for each in out]


def in_peft(adapter: Path, prompts: list[list[int]], tokens: int) -> tuple[list[list[int]], Any]:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, adapter).eval()
    answers = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, pad_token_id=0
        )
        answers.append(out[0, len(prompt) :].tolist())
    return answers, model


def gap(model: Any, tokens: list[int]) -> float:
    """Nats between the two likeliest next tokens."""
    import torch

    with torch.no_grad():
        best = torch.log_softmax(model(input_ids=torch.tensor([tokens])).logits[0, -1], -1).topk(2).values
    return float(best[0] - best[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--serve", nargs=2, help="used by the benchmark itself: adapter and file of prompts")
    options = parser.parse_args()
    quiet()
    if options.serve:
        adapter, file = Path(options.serve[0]), Path(options.serve[1])
        answers = in_vllm(adapter, json.loads(file.read_text()), options.tokens)
        file.with_suffix(".out").write_text(json.dumps(answers))
        return
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        heard = train(
            BASE,
            write_dataset(home / "data", 800),
            home / "run",
            max_steps=options.steps,
            epochs=99,
            learning_rate=3e-3,
            max_length=384,
            checkpoint_steps=10**6,
        )
        adapter = Path(heard.last("finished")["path"])
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(BASE)
        prompts = [
            tokenizer.apply_chat_template(each[:-1], add_generation_prompt=True, return_dict=True)["input_ids"]
            for each in conversations(options.prompts, seed=7)
        ]
        plain, model = in_peft(adapter, prompts, options.tokens)
        file = home / "prompts.json"
        file.write_text(json.dumps(prompts))
        command = [sys.executable, "-m", "bench.parity", "--tokens", str(options.tokens), "--serve"]
        environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
        subprocess.run(
            [*command, str(adapter), str(file)], check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
        )
        served = json.loads(file.with_suffix(".out").read_text())
        unlike = []
        for prompt, one, two in zip(prompts, plain, served, strict=True):
            if one != two:
                at = next(
                    (i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two))
                )
                unlike.append(gap(model, [*prompt, *one[:at]]))
    equal = options.prompts - len(unlike)
    far = [each for each in unlike if each > NEAR_TIE]
    command = f"`python -m bench.parity --prompts {options.prompts}`, {platform.machine()}"
    share = equal / options.prompts
    widest = max(unlike, default=0.0)
    lines = [
        "# The adapter in plain peft and in vLLM",
        "",
        f"{command}, fp32, greedy, at most {options.tokens} tokens, rank 16 after {options.steps} steps.",
        "",
        f"Same answer, token by token: **{equal} of {options.prompts}** ({share:.1%}; bar: {BAR:.0%}).",
        f"Mismatches: {len(unlike)}; where they part the best two tokens are at most {widest:.4f} nats apart;",
        f"{len(far)} of them beyond a near-tie ({NEAR_TIE} nats).",
    ]
    text = "\n".join(lines) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "parity.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
