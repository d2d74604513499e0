"""Pre-training of the tiny base: tasks first, mixed text last, so that every token is one the model can emit."""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from triage.base.corpus import EXACT, FIRST, SECOND, Task, prose, task
from triage.base.tokenizer import ASSISTANT, BOS_ID, END, END_ID, PAD_ID, SYSTEM, USER

Say = Callable[[str], None]
Keep = Callable[[LlamaForCausalLM], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long each phase is; a step sees about 4,000 tokens, so that Muon's orthogonalisation costs little.

    Muon (Jordan et al. 2024) trains the matrices, AdamW the embedding and norms.
    """

    task_steps: int = 1000
    mixed_steps: int = 360
    tasks_per_step: int = 56
    window: int = 256
    windows_per_step: int = 16
    muon_lr: float = 0.008
    adamw_lr: float = 0.003
    mixed_scale: float = 0.6


@dataclass(frozen=True, slots=True)
class Batch:
    """Token ids (rows x length) and the loss weight of each token, 0 where there is none."""

    ids: torch.Tensor
    weights: torch.Tensor


def render(one: Task) -> tuple[str, str]:
    """The prompt and the completion of a task in the words of the chat template."""
    system = f"{SYSTEM}{one.system}{END}" if one.system else ""
    return f"{system}{USER}{one.question}{END}{ASSISTANT}", f"{one.answer}{END}"


def encode(tokenizer: PreTrainedTokenizerFast, tasks: list[Task]) -> list[tuple[list[int], list[int]]]:
    """Prompt ids, with the opening token, and completion ids of each task."""
    texts = [text for one in tasks for text in render(one)]
    ids = [e.ids for e in tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)]
    return [([BOS_ID, *ids[i]], ids[i + 1]) for i in range(0, len(ids), 2)]


def _padded(rows: list[tuple[list[int], list[int]]]) -> Batch:
    length = max(len(prompt) + len(completion) for prompt, completion in rows)
    ids = torch.full((len(rows), length), PAD_ID)
    weights = torch.zeros(len(rows), length)
    for i, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        ids[i, :end] = torch.tensor(prompt + completion)
        weights[i, len(prompt) : end] = 1.0
    return Batch(ids, weights)


def _task_batches(tokenizer: PreTrainedTokenizerFast, rng: random.Random, size: int) -> Iterator[Batch]:
    while True:
        rows = encode(tokenizer, [task(rng, FIRST) for _ in range(size * 8)])
        rows.sort(key=lambda row: len(row[0]) + len(row[1]))  # rows of like length together: little padding
        batches = [rows[i : i + size] for i in range(0, len(rows), size)]
        rng.shuffle(batches)
        yield from map(_padded, batches)


def _mixed_batches(tokenizer: PreTrainedTokenizerFast, rng: random.Random, plan: Plan) -> Iterator[Batch]:
    ids: list[int] = []
    weights: list[float] = []
    need = plan.window * plan.windows_per_step
    while True:
        while len(ids) < need:
            tasks = [task(rng, SECOND) for _ in range(64)]
            plain = [prose(rng) for _ in range(36)]
            texts = tokenizer.backend_tokenizer.encode_batch(plain, add_special_tokens=False)
            rows = [([BOS_ID, *e.ids, END_ID], [0.5] * (len(e.ids) + 2)) for e in texts]
            rows += [(p + c, [0.25] * len(p) + [1.0] * len(c)) for p, c in encode(tokenizer, tasks)]
            rng.shuffle(rows)
            for row, share in rows:
                ids += row
                weights += share
        shape = (plan.windows_per_step, plan.window)
        yield Batch(torch.tensor(ids[:need]).view(shape), torch.tensor(weights[:need]).view(shape))
        del ids[:need], weights[:need]


def autocast() -> torch.autocast:
    """bfloat16 where the processor multiplies it in hardware, float32 elsewhere: emulated it is far slower."""
    return torch.autocast("cpu", torch.bfloat16, enabled=bool(torch.cpu.get_capabilities().get("avx512_bf16")))


def _loss(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    weights = batch.weights[:, 1:]
    chosen = weights > 0
    with autocast():
        hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[:, :-1][chosen])
    each = cross_entropy(logits.float(), batch.ids[:, 1:][chosen], reduction="none")
    return (each * weights[chosen]).sum() / weights[chosen].sum()


@torch.no_grad()  # type: ignore[untyped-decorator]
def probe(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int = 4242, n: int = 60
) -> dict[str, float]:
    """Share of tasks answered exactly (every token the likeliest), for each kind; `n` of each, never trained on."""
    model.eval()
    found: dict[str, float] = {}
    for kind in EXACT:
        rng = random.Random(f"probe-{kind}-{seed}")
        rows = encode(tokenizer, [task(rng, {kind: 1.0}) for _ in range(n)])
        batch = _padded(rows)
        with autocast():
            best = model(input_ids=batch.ids).logits.argmax(-1)
        right = (best[:, :-1] == batch.ids[:, 1:]) | (batch.weights[:, 1:] == 0)
        found[kind] = round(right.all(1).float().mean().item(), 3)
    model.train()
    return found


def _phase(
    name: str,
    model: LlamaForCausalLM,
    batches: Iterator[Batch],
    steps: int,
    scale: float,
    plan: Plan,
    say: Say,
    keep: Keep,
) -> None:
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=plan.muon_lr, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(others, lr=plan.adamw_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]
    rates = [[group["lr"] * scale for group in o.param_groups] for o in optimisers]
    model.train()
    started, seen, recent = time.monotonic(), 0, 0.0
    for step in range(steps):
        done = step / steps
        factor = min(1.0, (step + 1) / 20) * (1.0 if done < 0.6 else max(0.02, 1 - (done - 0.6) / 0.4))
        for optimiser, initial in zip(optimisers, rates, strict=True):
            for group, rate in zip(optimiser.param_groups, initial, strict=True):
                group["lr"] = rate * factor
        batch = next(batches)
        loss = _loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        seen += int((batch.ids != PAD_ID).sum())
        recent = loss.item() if step == 0 else 0.95 * recent + 0.05 * loss.item()
        if (step + 1) % 50 == 0 or step + 1 == steps:
            spent = time.monotonic() - started
            say(
                f"{name} {step + 1}/{steps}  loss {recent:.3f}  {seen / 1e6:.2f}M tokens  {seen / spent:.0f} tokens/s  "
                f"{spent:.0f} s, {spent / (step + 1) * (steps - step - 1):.0f} s left"
            )
        if (step + 1) % 200 == 0 or step + 1 == steps:
            keep(model)


def train_tasks(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int, plan: Plan, say: Say, keep: Keep
) -> None:
    """The first phase: answers to tasks. Trains in place; `keep` is called every 200 steps and at the end."""
    batches = _task_batches(tokenizer, random.Random(f"tasks-{seed}"), plan.tasks_per_step)
    _phase("tasks", model, batches, plan.task_steps, 1.0, plan, say, keep)


def train_mixed(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int, plan: Plan, say: Say, keep: Keep
) -> None:
    """The second phase: tasks and plain text, with loss on every token. Trains in place, as the first does."""
    batches = _mixed_batches(tokenizer, random.Random(f"mixed-{seed}"), plan)
    _phase("mixed", model, batches, plan.mixed_steps, plan.mixed_scale, plan, say, keep)
