"""Training speed beside TRL's SFTTrainer, same model, rows, batch and schedule: `python -m bench training`.

Each trainer runs in a process of its own, one after the other, in turns; the ratio is taken within a round. `trl` is
SFTTrainer with its defaults, `trl-tuned` the same without gradient checkpointing.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.training.rows import BASE, RESULTS, ROOT, conversations, quiet, train, write_dataset

RECIPE = {"rank": 16, "alpha": 32, "learning_rate": 3e-3, "batch_size": 16, "max_length": 384, "warmup_steps": 10}
BAR = 1.3


def ours(rows: int, steps: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        heard = train(
            BASE, write_dataset(home / "data", rows), home / "run", max_steps=steps, epochs=99, checkpoint_steps=10**6,
            **RECIPE,
        )  # fmt: skip
    done = heard.last("finished")
    # The last checkpoint is written after the last step: what lies between it and the start is the steps alone.
    spent = heard.processor_at("saved") - heard.processor_at("ready")
    tokens = done["tokens_per_second"] * done["seconds"]
    return {
        "tokens_per_second": done["tokens_per_second"],
        "per_processor_second": tokens / spent,
        "curve": [loss for _, loss in done["loss_curve"]],
        "precision": heard.last("ready")["environment"]["precision"],
    }


def trl(rows: int, steps: int, *, tuned: bool) -> dict[str, Any]:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(BASE)
    told = conversations(rows)
    data = Dataset.from_list([{"prompt": each[:-1], "completion": each[-1:]} for each in told])
    lengths = [len(tokenizer.apply_chat_template(each, return_dict=True)["input_ids"]) for each in told]
    clock: dict[str, float] = {}

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            clock["began"], clock["cpu"] = time.monotonic(), time.process_time()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            clock["ended"], clock["cpu"] = time.monotonic(), time.process_time() - clock["cpu"]

    options = {"gradient_checkpointing": False} if tuned else {}
    with tempfile.TemporaryDirectory() as name:
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.bfloat16),
            processing_class=tokenizer,
            train_dataset=data,
            peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
            callbacks=[Clock()],
            args=SFTConfig(
                output_dir=name,
                per_device_train_batch_size=16,
                max_steps=steps,
                learning_rate=3e-3,
                warmup_steps=10,
                max_length=384,
                logging_steps=1,
                save_strategy="no",
                report_to=[],
                seed=0,
                adam_beta2=0.98,
                lr_scheduler_type="linear",
                use_cpu=not torch.cuda.is_available(),
                disable_tqdm=True,
                **options,
            ),
        )
        trainer.train()
    curve = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    seconds = clock["ended"] - clock["began"]
    tokens = sum(lengths) / len(lengths) * 16 * steps
    return {"tokens_per_second": tokens / seconds, "per_processor_second": tokens / clock["cpu"], "curve": curve}


def one(name: str, rows: int, steps: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.training", "--one", name, "--rows", str(rows), "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--one", choices=["ours", "trl", "trl-tuned"])
    options = parser.parse_args()
    quiet()
    if options.one:
        made = (
            ours(options.rows, options.steps)
            if options.one == "ours"
            else trl(options.rows, options.steps, tuned=options.one == "trl-tuned")
        )
        sys.stdout.write("\n" + json.dumps(made) + "\n")
        return
    names = ("ours", "trl", "trl-tuned")
    busy = os.getloadavg()[0]
    rounds = [{name: one(name, options.rows, options.steps) for name in names} for _ in range(options.rounds)]
    command = f"`python -m bench.training --rows {options.rows} --steps {options.steps} --rounds {options.rounds}`"
    where = (
        f"{platform.machine()}, {os.cpu_count()} cores (load before it: {busy:.1f}), {rounds[0]['ours']['precision']}"
    )
    lines = [
        "# Training speed beside TRL's SFTTrainer",
        "",
        f"{command}, {where}: LoRA of rank 16 on the example's base, batch 16.",
        "Tokens per second of processor time (of wall clock in brackets, which other work on the machine slows).",
        "",
        "| round | ours | TRL, its defaults | TRL without gradient checkpointing | ours / TRL | ours / tuned |",
        "|---|---|---|---|---|---|",
    ]
    for number, made in enumerate(rounds, 1):
        speeds = [made[name]["per_processor_second"] for name in names]
        clocks = [made[name]["tokens_per_second"] for name in names]
        cells = " | ".join(f"{speed:,.0f} ({clock:,.0f})" for speed, clock in zip(speeds, clocks, strict=True))
        lines.append(f"| {number} | {cells} | {speeds[0] / speeds[1]:.2f} | {speeds[0] / speeds[2]:.2f} |")
    ratio = statistics.median(r["ours"]["per_processor_second"] / r["trl"]["per_processor_second"] for r in rounds)
    tail = max(3, options.steps // 4)
    ends = {name: statistics.mean(rounds[0][name]["curve"][-tail:]) for name in names}
    starts = {name: statistics.mean(rounds[0][name]["curve"][:3]) for name in names}
    lines += [
        "",
        f"Median ours / TRL: **{ratio:.2f}** (bar: {BAR}).",
        "",
        f"Loss, mean of the first 3 and the last {tail} steps (each trainer draws its own order of the rows): "
        + "; ".join(f"{name} {starts[name]:.3f} to {ends[name]:.4f}" for name in names) + ".",
    ]  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "training.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
