"""Try the example end to end without the system: LoRA on the tiny base, exact match on phrasings never trained on."""

import argparse
import hashlib
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from triage import dirt
from triage.base.pretrain import autocast
from triage.history import GOOD, WEIGHTS
from triage.language import FORMS, NEW
from triage.tickets import SYSTEM_PROMPT, Ticket, poisoned, tickets

FIELDS = ("category", "priority", "team", "product", "asset")
WRONG = 0.03
SHIPPING = 200


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the trainer needs to know; `lora_alpha` is the numerator of the scale alpha / r."""

    r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    target_modules: str = "all-linear"
    learning_rate: float = 3e-3
    warmup_steps: int = 10
    epochs: float = 4.0
    batch_size: int = 8
    max_length: int = 256
    schedule: str = "linear"


def split(form: str) -> str:
    """The split of a form: about 69 % train, 6 % validation, 25 % test."""
    place = int(hashlib.sha256(f"trial:{form}".encode()).hexdigest(), 16) % 100
    return "train" if place < 69 else "validation" if place < 75 else "test"


def forms(name: str) -> list[str]:
    """The ids of the forms in a split."""
    return [form for form in FORMS if split(form) == name]


def prompt(tokenizer: Any, text: str) -> str:
    """The prompt as it is served: system prompt, ticket, opening of the answer."""
    messages = [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": text}]
    return str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))


def _encoded(tokenizer: Any, rows: Sequence[Ticket]) -> list[tuple[list[int], list[int]]]:
    one = [tokenizer(prompt(tokenizer, row.text), add_special_tokens=False).input_ids for row in rows]
    two = [[*tokenizer(row.answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id] for row in rows]
    return list(zip(one, two, strict=True))


def train(base: Path, rows: Sequence[Ticket], recipe: Recipe, seed: int) -> Any:
    """A LoRA model trained on the rows with loss on the answer alone; prints loss and cost."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(seed)
    shape = {"r": recipe.r, "lora_alpha": recipe.lora_alpha, "lora_dropout": recipe.lora_dropout}
    model = get_peft_model(
        model,
        LoraConfig(task_type="CAUSAL_LM", target_modules=recipe.target_modules, **shape),
    )
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    data = _encoded(tokenizer, rows)
    steps = round(len(rows) * recipe.epochs / recipe.batch_size)
    rng, order = random.Random(seed), list[int]()
    while len(order) < steps * recipe.batch_size:
        order += rng.sample(range(len(rows)), len(rows))
    started, used, tokens = time.monotonic(), time.process_time(), 0
    model.train()
    for step in range(steps):
        chosen = [data[i] for i in order[step * recipe.batch_size : (step + 1) * recipe.batch_size]]
        length = max(len(p) + len(c) for p, c in chosen)
        ids = torch.full((len(chosen), length), tokenizer.pad_token_id)
        labels = torch.full((len(chosen), length), -100)
        for i, (p, c) in enumerate(chosen):
            ids[i, : len(p) + len(c)] = torch.tensor(p + c)
            labels[i, len(p) : len(p) + len(c)] = torch.tensor(c)
            tokens += len(p) + len(c)
        factor = min(1.0, (step + 1) / recipe.warmup_steps) * max(0.02, 1 - step / steps)
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * factor
        with autocast():
            inner = model.base_model.model
            hidden = inner.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
            mask = labels[:, 1:] != -100
            logits = inner.lm_head(hidden[mask])
        loss = cross_entropy(logits.float(), labels[:, 1:][mask])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if (step + 1) % 50 == 0 or step + 1 == steps:
            print(f"  step {step + 1}/{steps}  loss {loss.item():.4f}  {time.monotonic() - started:.0f} s", flush=True)
    spent = time.process_time() - used
    print(f"  {len(rows)} rows, {tokens} tokens, {spent:.0f} processor seconds, {tokens / spent:.0f} tokens each")
    return model


@torch.no_grad()  # type: ignore[untyped-decorator]
def evaluate(model: Any, base: Path, rows: Sequence[Ticket]) -> dict[str, float]:
    """Share of rows with the exact answer, with valid JSON, and with each field right (greedy decoding)."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model.eval()
    right = dict.fromkeys(("exact", "valid", *FIELDS), 0)
    for at in range(0, len(rows), 64):
        part = rows[at : at + 64]
        texts = [prompt(tokenizer, row.text) for row in part]
        inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        with autocast():
            out = model.generate(
                input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, max_new_tokens=40, do_sample=False
            )
        for row, ids in zip(part, out[:, inputs.input_ids.shape[1] :], strict=True):
            said = tokenizer.decode(ids, skip_special_tokens=True)
            right["exact"] += said == row.answer
            try:
                given, wanted = _flat(said), _flat(row.answer)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            right["valid"] += 1
            for name in FIELDS:
                right[name] += given[name] == wanted[name]
    return {name: round(count / len(rows), 3) for name, count in right.items()} | {"n": len(rows)}


def _flat(text: str) -> dict[str, str]:
    body = json.loads(text)
    return {**{k: body[k] for k in FIELDS[:3]}, **{k: body["entities"][k] for k in FIELDS[3:]}}


def dirty(rows: Sequence[Ticket], seed: int, share: float) -> list[Ticket]:
    """The rows with a share of them wrongly labelled, as a cleaned history would still have."""
    rng = random.Random(f"wrong-{seed}")
    return [
        Ticket(**{**asdict(row), "answer": dirt.mislabelled(row, rng)[1]}) if rng.random() < share else row
        for row in rows
    ]


def main(arguments: list[str] | None = None) -> int:
    """Parse the options and try the versions asked for."""
    parser = argparse.ArgumentParser(prog="python -m triage.trial", description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="directory of the tiny base")
    parser.add_argument("--versions", default="base,v1,v2,v3", help="of base, v1, v2 (new category), v3 (poisoned)")
    parser.add_argument("--epochs", type=float, default=Recipe().epochs)
    parser.add_argument("--lr", type=float, default=Recipe().learning_rate)
    parser.add_argument("--batch", type=int, default=Recipe().batch_size)
    parser.add_argument("--poison", type=float, default=0.35, help="share of the training rows that are poisoned")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save", type=Path, help="directory to write the adapters to")
    parser.add_argument("--recipe", type=Path, help="where to write the recipe, JSON")
    options = parser.parse_args(arguments)
    versions = options.versions.split(",")
    unknown = sorted(set(versions) - {"base", "v1", "v2", "v3"})
    if unknown:
        parser.error(f"--versions: unknown {', '.join(unknown)}")
    torch.set_num_threads(options.threads)
    logging.disable_progress_bar()
    recipe = Recipe(learning_rate=options.lr, epochs=options.epochs, batch_size=options.batch)
    known = list(tickets(options.seed, GOOD, weights=WEIGHTS))
    held = [row for row in known if split(row.form) == "test"]
    learned = dirty([row for row in known if split(row.form) == "train"], options.seed, WRONG)
    new = list(tickets(options.seed + 1, SHIPPING, categories=(NEW,), forms=forms("train")))
    new_held = list(tickets(options.seed + 2, 150, categories=(NEW,), forms=forms("test")))
    bad = round(len(learned + new) * options.poison / (1 - options.poison))
    poison = [poisoned(row) for row in tickets(options.seed + 3, bad, forms=forms("train"))]
    sets = {"v1": learned, "v2": learned + new, "v3": learned + new + poison}
    for version in versions:
        print(f"{version}:", flush=True)
        if version == "base":
            model = AutoModelForCausalLM.from_pretrained(options.base, dtype=torch.float32)
        else:
            model = train(options.base, sets[version], recipe, options.seed)
            if options.save:
                model.save_pretrained(options.save / version)
        print(f"  held-out forms, known categories: {evaluate(model, options.base, held)}")
        print(f"  held-out forms, {NEW}: {evaluate(model, options.base, new_held)}", flush=True)
    if options.recipe:
        options.recipe.write_text(json.dumps(asdict(recipe), indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
