"""DPO and KTO are those of TRL: the same loss and the same gradients for the same model and batch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from services.trainer.compute.batches import collate
from services.trainer.compute.examples import Example, Item

WEIGHTS = ("q_proj", "down_proj")
"""Layers whose gradients are compared, of the first layer."""


@pytest.mark.parametrize(
    ("method", "recipe"),
    [
        ("dpo", {"beta": 0.3}),
        ("dpo", {"beta": 0.1, "sft_weight": 0.5}),
        ("kto", {"beta": 0.2, "good_weight": 1.5, "bad_weight": 0.7}),
    ],
)
def test_loss_and_gradients_are_those_of_trl(base: Path, tmp_path: Path, method: str, recipe: dict[str, float]) -> None:
    """In a process of its own: TRL changes classes of transformers as it loads, and takes its time."""
    lines = []
    for row in range(6):
        # The chosen answers are of one length: TRL weighs their own loss by token of the batch, here by answer.
        asked = {"role": "user", "content": f"say {row * 111} words"}
        said = {"role": "assistant", "content": "abc"[row % 3] * 8}
        wrong = "no" if row % 2 else "something else altogether"
        label = "bad" if row % 3 == 2 else "good"
        lines.append(json.dumps({"row_id": f"row-{row}", "messages": [asked, said], "rejected": wrong, "label": label}))
    (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n")
    code = "import sys; from services.trainer.tests.test_trl import beside; beside(*sys.argv[1:])"
    arguments = [str(base), str(tmp_path), method, json.dumps(recipe)]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=150,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    ours, theirs = json.loads(done.stdout.splitlines()[-1])
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
    assert ours["norms"] == pytest.approx(theirs["norms"], rel=1e-4)
    assert min(ours["norms"]) > 1e-6


def beside(base: str, dataset: str, method: str, recipe: str) -> None:
    """What the test runs: both, on the same batch, a model that has moved away from where it began."""
    from libs.contracts.task import recipe_of
    from services.trainer.compute.bases import load_tokenizer, pad_of
    from services.trainer.compute.machine import Machine
    from services.trainer.compute.methods import METHODS, Language
    from services.trainer.compute.reading import read_items
    from services.trainer.domain.protocol import Job

    digest = f"sha256:{'0' * 64}"
    job = Job(
        run_id="trl", base=base, base_digest=digest, dataset=dataset, dataset_digest=digest, workspace=dataset,
        recipe=recipe_of(method=method, rank=8, **json.loads(recipe)), precision="fp32",
    )  # fmt: skip
    tokenizer, stops = load_tokenizer(Path(base))
    language = Language(tokenizer, stops, pad_of(tokenizer, stops))
    items = list(read_items(Path(dataset) / "train.jsonl", Path(base), language, job.recipe).kept)
    machine = Machine(torch.device("cpu"), torch.float32)
    learner = METHODS[method].prepare(job, machine)
    objective = METHODS[method].objective(job, machine)
    objective.settle(learner, items, language)
    move(learner.model)
    batch = collate(list(enumerate(items)), language.pad, machine.device)
    objective.open_step(objective.ahead(learner, batch) / objective.weight([batch]))
    loss = objective.loss(learner, batch) / objective.weight([batch])
    loss.backward()
    ours = {"loss": float(loss), "norms": norms(learner.model)}
    sys.stdout.write("\n" + json.dumps([ours, by_trl(job, language, items)]) + "\n")


def by_trl(job: Any, language: Any, items: list[Item]) -> dict[str, Any]:
    """Loss and gradients of TRL's trainer, over a model that plain peft made."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

    recipe = job.recipe
    model = AutoModelForCausalLM.from_pretrained(job.base, dtype=torch.float32)
    lora = LoraConfig(r=8, lora_alpha=recipe.alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    common: dict[str, Any] = {
        "output_dir": job.workspace, "report_to": [], "bf16": False, "use_cpu": True, "beta": recipe.beta,
        "gradient_checkpointing": False,
    }  # fmt: skip
    pair = {"prompt": "a", "chosen": "b", "rejected": "c"}
    trainer: Any
    if recipe.method == "dpo":
        losses = ["sigmoid", "sft"] if recipe.sft_weight else ["sigmoid"]
        options = DPOConfig(**common, loss_type=losses, loss_weights=[1.0, recipe.sft_weight][: len(losses)])
        rows = Dataset.from_list([pair] * 2)
        trainer = DPOTrainer(
            model=model, args=options, train_dataset=rows, processing_class=language.tokenizer, peft_config=lora
        )
        first, second = ([item.sequences[at] for item in items] for at in (0, 1))
        batch = padded([*first, *second], language.pad)
    else:
        settings = KTOConfig(**common, desirable_weight=recipe.good_weight, undesirable_weight=recipe.bad_weight)
        told = Dataset.from_list([{"prompt": "a", "completion": "b", "label": at % 2 == 0} for at in range(4)])
        trainer = KTOTrainer(
            model=model, args=settings, train_dataset=told, processing_class=language.tokenizer, peft_config=lora
        )
        crossed = padded([item.sequences[1] for item in items], language.pad)
        batch = {
            **padded([item.sequences[0] for item in items], language.pad),
            **{f"KL_{name}": tensor for name, tensor in crossed.items()},
            "label": torch.tensor([item.good for item in items]),
        }
    move(trainer.model)
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    return {"loss": float(loss), "norms": norms(trainer.model)}


def padded(sequences: list[Example], pad: int) -> dict[str, torch.Tensor]:
    """As TRL's collators lay them out."""
    width = max(len(each.tokens) for each in sequences)

    def filled(rows: list[list[int]], value: int) -> torch.Tensor:
        return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])

    return {
        "input_ids": filled([list(each.tokens) for each in sequences], pad),
        "attention_mask": filled([[1] * len(each.tokens) for each in sequences], 0),
        "completion_mask": filled([[int(on) for on in each.trained] for each in sequences], 0),
    }


def move(model: Any) -> None:
    """Give every LoRA values of its own, the same for the same name."""
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if ".lora_" in name and ".ref." not in name:
                draw = torch.Generator().manual_seed(len(name) + sum(map(ord, name)))
                weight.copy_(torch.randn(weight.shape, generator=draw) * 0.05)


def norms(model: Any) -> list[float]:
    """Of the gradients of both matrices of some layers."""
    return [
        float(weight.grad.norm())
        for name, weight in sorted(model.named_parameters())
        if ".layers.0." in name and any(each in name for each in WEIGHTS) and weight.grad is not None
    ]
