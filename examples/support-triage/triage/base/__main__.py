"""Make the tiny base again: `python -m triage.base --out DIR`."""

import argparse
import copy
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from transformers import LlamaForCausalLM
from transformers.utils import logging

from triage.base.card import card
from triage.base.init import build
from triage.base.pretrain import Plan, probe, train_mixed, train_tasks
from triage.base.tokenizer import make_tokenizer

MARK = "tasks-done.json"  # lies in the output directory between the phases: a making that was stopped goes on there


def main(arguments: list[str] | None = None) -> int:
    """Parse the options, make the base, write it."""
    parser = argparse.ArgumentParser(prog="python -m triage.base", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory to write the base to")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2, help="processor threads")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full number of steps, for a quick try")
    options = parser.parse_args(arguments)
    if options.scale <= 0:
        parser.error("--scale must be above 0")
    plan = Plan()
    plan = replace(
        plan,
        task_steps=max(1, round(plan.task_steps * options.scale)),
        mixed_steps=max(1, round(plan.mixed_steps * options.scale)),
    )
    torch.set_num_threads(options.threads)
    logging.disable_progress_bar()
    make(options.out, options.seed, plan)
    return 0


def say(line: str) -> None:
    """Show progress at once."""
    print(line, flush=True)


def make(out: Path, seed: int, plan: Plan) -> None:
    """Write the base to `out`; goes on after the first phase if that was finished there with the same seed and plan."""
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    mark, order = out / MARK, json.dumps({"seed": seed, **asdict(plan)})
    resumed = mark.exists() and mark.read_text(encoding="utf-8") == order
    say("learning the tokenizer")
    tokenizer = make_tokenizer(seed)
    tokenizer.save_pretrained(out)
    model = build(len(tokenizer), seed)
    say(f"{model.num_parameters() / 1e6:.2f}M parameters, {len(tokenizer)} tokens in the vocabulary")

    def keep(trained: LlamaForCausalLM) -> None:
        copy.deepcopy(trained).to(torch.bfloat16).save_pretrained(out)
        (out / "model.safetensors").chmod(0o644)

    if not resumed:
        mark.unlink(missing_ok=True)
        train_tasks(model, tokenizer, seed, plan, say, keep)
        mark.write_text(order, encoding="utf-8")
    # The second phase starts from the bfloat16 file either way, so that a making in two goes gives the same weights.
    model = LlamaForCausalLM.from_pretrained(out, dtype=torch.float32)
    say(f"after tasks: {probe(model, tokenizer)}")
    train_mixed(model, tokenizer, seed, plan, say, keep)
    probes = probe(model, tokenizer)
    say(f"after mixed: {probes}")
    part = "the second phase alone, the first was found finished," if resumed else "both phases"
    made = f"Wall time of {part}: {time.monotonic() - started:.0f} s on {torch.get_num_threads()} threads."
    text = card(plan, seed, model.num_parameters(), probes, made)
    (out / "MODEL_CARD.md").write_text(text, encoding="utf-8")
    mark.unlink(missing_ok=True)
    say(f"wrote {out} in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
