"""Peak memory beside the plan: `python -m bench.training_memory` plans a run, makes it, and lays one beside the other.

Models of several shapes with random weights, so that activations, weights or the optimizer are the greater part in
turn. Each run is a process of its own, as in the service; the plan is made without earlier runs to learn from.
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

from bench.training.rows import BASE, DIGEST, RESULTS, ROOT, quiet, train, write_dataset

SHAPES: dict[str, dict[str, Any]] = {
    "4M": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4},
    "40M": {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 12},
    "120M": {"hidden_size": 768, "intermediate_size": 2112, "num_hidden_layers": 16},
}
RUNS = (
    ("4M", "lora", 64, 1), ("40M", "lora", 16, 1), ("40M", "full", 8, 1), ("120M", "lora", 8, 1),
    ("120M", "full", 4, 1), ("120M", "lora", 8, 2), ("120M", "full", 4, 2),
)  # fmt: skip
"""Shape, method, batch, processes; of several each holds a part of the weights, and the first is measured."""
BAR = 0.10


def make_base(directory: Path, shape: str) -> Path:
    """A base of the example's tokenizer and another shape, with random weights in bf16."""
    import shutil

    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(BASE)
    heads = SHAPES[shape]["hidden_size"] // 64
    config.update({**SHAPES[shape], "num_attention_heads": heads, "num_key_value_heads": heads, "head_dim": 64})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copyfile(BASE / name, directory / name)
    return directory


def one(kind: str, base: Path, data: Path, workspace: Path, method: str, batch: int, processes: int) -> dict[str, Any]:
    """Plan or run, in this process."""
    from libs.contracts.task import recipe_of

    recipe = {"method": method, "batch_size": batch, "max_length": 384, "max_steps": 4, "checkpoint_steps": 2,
              "processes": processes, "shard": processes > 1}  # fmt: skip
    if kind == "run":
        done = train(base, data, workspace, **recipe).last("finished")
        return {"peak": done["peak_memory_bytes"]}
    from services.trainer.compute.machine import choose
    from services.trainer.compute.survey import look
    from services.trainer.domain.devices import Device
    from services.trainer.domain.forecast import Calibration, Prices, forecast
    from services.trainer.domain.protocol import Survey

    made = recipe_of(**recipe)
    survey = Survey(base=str(base), base_digest=DIGEST, dataset=str(data), dataset_digest=DIGEST, recipe=made)
    seen = look(survey, choose(survey))
    here = Device("here", seen.memory_total, seen.peak_flops, 16.0, 0, "cpu")
    return dict(forecast(seen, made, here, Calibration(), Prices())["memory"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=7, help="used by the benchmark itself")
    options = parser.parse_args()
    quiet()
    if options.one:
        kind, base, data, workspace, method, batch, processes = options.one
        said = one(kind, Path(base), Path(data), Path(workspace), method, int(batch), int(processes))
        sys.stdout.write("\n" + json.dumps(said) + "\n")
        return
    lines = [
        "# Peak memory beside the plan",
        "",
        f"`python -m bench.training_memory`, {platform.machine()}, {os.cpu_count()} cores, uncalibrated plan; MiB.",
        "",
        "| shape | method | batch | processes | before the model | weights | activations | planned peak | peak | off |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    worst = 0.0
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        data = write_dataset(home / "data", 128)
        for shape, method, batch, processes in RUNS:
            base = home / shape
            if not base.exists():
                make_base(base, shape)
            found: dict[str, dict[str, Any]] = {}
            for kind in ("plan", "run"):
                arguments = [kind, str(base), str(data), str(home / "run"), method, str(batch), str(processes)]
                command = [sys.executable, "-m", "bench.training_memory", "--one", *arguments]
                done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
                if done.returncode:
                    raise SystemExit(done.stderr[-3000:])
                found[kind] = json.loads(done.stdout.strip().splitlines()[-1])
            plan, peak = found["plan"], found["run"]["peak"]
            off = (plan["peak"] - peak) / peak
            worst = max(worst, abs(off))
            sizes = [plan["overhead"], plan["weights"], plan["activations"], plan["peak"], peak]
            cells = " | ".join(f"{size / 2**20:,.0f}" for size in sizes)
            lines.append(f"| {shape} | {method} | {batch} | {processes} | {cells} | {off:+.1%} |")
            print(lines[-1], flush=True)
    lines += ["", f"Furthest off: **{worst:.1%}** (bar: {BAR:.0%}).", ""]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "training_memory.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
