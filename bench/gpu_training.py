"""Training on a GPU: `python -m bench gpu_training` where there is one; every part prints tokens/s, MFU and memory.

lora-8b: LoRA of rank 16 on an 8B-shaped base in bf16 (MFU counts 4 operations per weight and token, the figure to beat
is 40.6 %). qlora-70b: steps of a 70B-shaped base in 4 bits under 48 GB. full-1b: full fine-tuning of a 1B-shaped base.
Weights are random: speed and memory do not depend on them. `--peers` names a Python with unsloth
(`python -m venv /tmp/unsloth && /tmp/unsloth/bin/pip install unsloth`), run on the same shape in the same go.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.training.rows import DIGEST, RESULTS, ROOT, quiet
from bench.training.shapes import config, write_base

PARTS: dict[str, tuple[str, str, int, int]] = {
    "lora-8b": ("lora", "8b", 4096, 4), "qlora-70b": ("qlora", "70b", 1024, 1), "full-1b": ("full", "1b", 4096, 4),
}  # fmt: skip
"""Method, shape, tokens of a row, rows of a batch."""
LEAST_MFU, MOST_GIB, WITHIN = 0.50, 48e9 / 2**30, 0.10
UNSLOTH = """
import json, sys, time, torch
from unsloth import FastLanguageModel
directory, length, batch, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
model, _ = FastLanguageModel.from_pretrained(directory, max_seq_length=length, dtype=torch.bfloat16, load_in_4bit=False)
model = FastLanguageModel.get_peft_model(model, r=16, lora_alpha=32, use_gradient_checkpointing="unsloth")
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)
spent = []
for step in range(steps):
    ids = torch.randint(0, 128000, (batch, length), device="cuda")
    torch.cuda.synchronize(); began = time.perf_counter()
    model(input_ids=ids, labels=ids).loss.backward(); optimizer.step(); optimizer.zero_grad()
    torch.cuda.synchronize(); spent.append(time.perf_counter() - began)
print(json.dumps({"tokens_per_second": batch * length / min(spent[2:]), "memory": torch.cuda.max_memory_allocated()}))
"""


def quantised(job: Any, machine: Any) -> Any:
    """A base drawn in 4 bits a layer at a time: in bf16 a 70B shape fits neither most disks nor the GPU."""
    import bitsandbytes as bnb
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear

    from services.trainer.compute.kernels import prefer_fast_attention
    from services.trainer.compute.methods.lora import attach

    prefer_fast_attention(machine)
    held = config("70b")
    spec = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )  # fmt: skip
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(held, dtype=torch.bfloat16, attn_implementation="sdpa")
        model = replace_with_bnb_linear(model, modules_to_not_convert=["lm_head"], quantization_config=spec)
    for layer in model.modules():
        for name, weight in list(layer.named_parameters(recurse=False)):
            shape = (layer.out_features, layer.in_features) if isinstance(layer, bnb.nn.Linear4bit) else weight.shape
            drawn = torch.randn(shape, device=machine.device, dtype=torch.bfloat16).mul_(0.02)
            if isinstance(layer, bnb.nn.Linear4bit):
                drawn = bnb.nn.Params4bit(
                    drawn, requires_grad=False, quant_type="nf4", compress_statistics=True, module=layer
                ).to(machine.device)
            else:
                drawn = torch.nn.Parameter(drawn if len(shape) > 1 else torch.ones_like(drawn), requires_grad=False)
            setattr(layer, name, drawn)
    inner = model.get_decoder()
    inner.rotary_emb = type(inner.rotary_emb)(held).to(machine.device)
    model.is_loaded_in_4bit = True
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()
    return attach(model, job, machine)


def planned(base: Path, recipe: Any, machine: Any, batch: int, length: int) -> float:
    """The peak a plan names for such a run on this GPU, before any run has calibrated it."""
    import torch

    from services.trainer.compute.simulate import step_memory
    from services.trainer.domain.devices import recognised
    from services.trainer.domain.forecast import peak_of
    from services.trainer.domain.protocol import Survey

    survey = Survey(base=str(base), base_digest=DIGEST, recipe=recipe, planned="cuda")
    total = torch.cuda.get_device_properties(0).total_memory
    parts = step_memory(survey, machine, (batch, length, batch * (length - 1)), total)
    known = recognised(torch.cuda.get_device_name())
    return float(peak_of(parts, known.overhead if known else 0, "gpu")["peak"])


def part(name: str, base: Path, steps: int) -> dict[str, Any]:
    """Steps of the service's own learner, stepper and loss on rows of one length."""
    import torch

    from libs.contracts.task import recipe_of
    from services.trainer.compute.examples import Example, Item
    from services.trainer.compute.machine import Machine, peak_flops, peak_memory_bytes
    from services.trainer.compute.methods import METHODS
    from services.trainer.compute.stepper import Stepper
    from services.trainer.domain.protocol import Job

    method, _, length, batch = PARTS[name]
    recipe = recipe_of(method=method, batch_size=batch, max_length=length)
    job = Job(
        run_id="bench", base=str(base), base_digest=DIGEST, dataset="", dataset_digest=DIGEST, workspace="/tmp",
        recipe=recipe, device="cuda",
    )  # fmt: skip
    machine = Machine(torch.device("cuda"), torch.bfloat16)
    # Before anything is loaded, as in the service: kernels that stand in for a model's own cannot be imagined.
    plans = {pieces: planned(base, recipe, machine, batch // pieces, length) for pieces in (1, 2, 4) if pieces <= batch}
    learner = quantised(job, machine) if method == "qlora" else METHODS[method].prepare(job, machine)
    learner.assume_short_cut()
    draw = torch.Generator().manual_seed(0)
    rows = []
    for at in range(batch * steps):
        ids = tuple(torch.randint(0, 128000, (length,), generator=draw).tolist())
        rows.append(Item(f"row-{at}", (Example(f"row-{at}", ids, (False, *(True,) * (length - 1))),)))
    objective = METHODS[method].objective(job, machine)
    stepper = Stepper(learner, objective, rows, recipe, pad=0, say=lambda word: print(word, file=sys.stderr))
    spent = []
    for step in range(steps):
        torch.cuda.synchronize()
        began = time.perf_counter()
        loss = stepper.take(step + 1, [tuple(range(step * batch, (step + 1) * batch))], 1e-4)
        torch.cuda.synchronize()
        spent.append(time.perf_counter() - began)
        print(f"{name} step {step + 1}: loss {loss:.4f}, {spent[-1]:.2f} s", file=sys.stderr, flush=True)
    weights = learner.weights
    speed = batch * length / min(spent[1:])
    per_token = (6 if method == "full" else 4) * weights
    return {
        "tokens_per_second": speed, "mfu": speed * per_token / peak_flops(machine), "weights": weights,
        "memory": peak_memory_bytes(machine), "split": stepper.split, "gpu": torch.cuda.get_device_name(),
        "planned": plans[min(stepper.split, batch)],
    }  # fmt: skip


def verdicts(name: str, made: dict[str, Any]) -> list[str]:
    """The bars that a part missed, in words."""
    missed = []
    if name == "lora-8b" and made["mfu"] < LEAST_MFU:
        missed.append(f"MFU below {LEAST_MFU:.0%}")
    if name == "qlora-70b" and made["memory"] / 2**30 >= MOST_GIB:
        missed.append("more than 48 GB")
    if abs(made["planned"] / made["memory"] - 1) > WITHIN:
        missed.append(f"plan more than {WITHIN:.0%} off")
    return missed


def main() -> int:
    """Status 1 when a part failed or missed its bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--bases", type=Path, default=Path("/tmp/pawl-gpu-bases"))
    parser.add_argument("--peers", help="a Python with unsloth")
    parser.add_argument("--one", help="used by the benchmark itself")
    options = parser.parse_args()
    quiet()
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")  # as `choose` does
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("gpu_training needs a GPU and there is none; `python -m bench training` runs on a processor")
    if options.one:
        method, shape, _, _ = PARTS[options.one]
        base = options.bases / shape
        if method == "qlora":
            config(shape).save_pretrained(base)
        else:
            write_base(base, shape)
        made = part(options.one, base, options.steps)
        sys.stdout.write("\n" + json.dumps(made) + "\n")
        return 0
    lines = [
        "# Training on a GPU",
        "",
        f"`python -m bench.gpu_training --steps {options.steps}`, {platform.machine()}, torch {torch.__version__}.",
        "MFU: 4 operations per weight and token, 6 for full fine-tuning. Memory includes the context.",
        "",
        "| part | GPU | tokens/s | MFU | peak (GiB) | planned (GiB) | pieces per batch | bars missed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    log, failed, speed = "", 0, 0.0
    for name in options.parts:
        command = [sys.executable, "-m", "bench.gpu_training", "--steps", str(options.steps)]
        command += ["--bases", str(options.bases), "--one", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        log += f"== {name}\n{done.stderr}\n"
        if done.returncode:
            failed += 1
            lines.append(f"| {name} | | failed with status {done.returncode} | | | | | |")
            print(lines[-1], done.stderr[-2000:], flush=True)
            continue
        made = json.loads(done.stdout.strip().splitlines()[-1])
        missed = verdicts(name, made)
        failed += bool(missed)
        speed = made["tokens_per_second"] if name == "lora-8b" else speed
        lines.append(
            f"| {name} | {made['gpu']} | {made['tokens_per_second']:,.0f} | {made['mfu']:.1%} | "
            f"{made['memory'] / 2**30:.1f} | {made['planned'] / 2**30:.1f} | {made['split']} | "
            f"{', '.join(missed) or 'none'} |"
        )
        print(lines[-1], flush=True)
    if options.peers and "lora-8b" in options.parts:
        _, shape, length, batch = PARTS["lora-8b"]
        arguments = [str(options.bases / shape), str(length), str(batch), str(options.steps)]
        done = subprocess.run([options.peers, "-c", UNSLOTH, *arguments], capture_output=True, text=True, check=False)
        log += f"== unsloth\n{done.stderr}\n"
        if done.returncode:
            lines += ["", f"unsloth, lora-8b: failed: {done.stderr.strip()[-200:]}"]
        else:
            theirs = json.loads(done.stdout.strip().splitlines()[-1])["tokens_per_second"]
            failed += speed < theirs
            lines += [
                "",
                f"unsloth, lora-8b: {theirs:,.0f} tokens/s; ours / unsloth: **{speed / theirs:.2f}** (bar: 1).",
            ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "gpu_training.md").write_text("\n".join(lines) + "\n")
    (RESULTS / "gpu_training.log").write_text(log)
    print("\n".join(lines))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
