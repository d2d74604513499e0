"""Full fine-tuning: every weight in fp32, and the result as a base of its own."""

import shutil
from pathlib import Path

import torch
from safetensors import safe_open

from libs.contracts.errors import InvalidInput
from services.trainer.compute.bases import identity, load_model
from services.trainer.compute.learner import Learner
from services.trainer.compute.machine import Machine
from services.trainer.compute.methods.lora import write_json
from services.trainer.domain.protocol import Job

_BESIDE = ("*.json", "*.jinja", "tokenizer.model", "*.txt")
_REWRITTEN = ("model.safetensors.index.json", "pawl.json")


def prepare_full(job: Job, machine: Machine) -> Learner:
    """The base with every weight trainable; the products are in the machine's precision, the weights in fp32."""
    if job.continue_from is not None:
        raise InvalidInput(
            "full fine-tuning starts from base weights and the stable version is an adapter: set recipe.start to base",
            reason="START_INVALID", field="recipe.start",
        )  # fmt: skip
    torch.manual_seed(job.recipe.seed)
    model = load_model(Path(job.base), machine, dtype=torch.float32, tokens=job.recipe.max_length, states=4)
    model.requires_grad_(True)
    model.train()
    return Learner(model, machine)


def save_weights(learner: Learner, job: Job, directory: Path) -> None:
    """Write the model in the base's own layout and precision, with its tokenizer, template and `pawl.json`."""
    # A weight that two modules share is written once, under its first name.
    once = {name for name, _ in (*learner.plain.named_parameters(), *learner.plain.named_buffers())}
    state = {name: tensor for name, tensor in learner.plain.state_dict().items() if name in once}
    held = learner.placement.gather(state)
    if held is None:
        return
    directory.mkdir(parents=True, exist_ok=True)
    base = Path(job.base)
    kind = stored_dtype(base) or torch.float32
    stored = {name: tensor.to(kind) for name, tensor in held.items()}
    learner.plain.save_pretrained(directory, state_dict=stored, safe_serialization=True)
    copy_beside(base, directory)
    write_json(
        directory / "pawl.json",
        {
            "base_digest": job.base_digest,
            "dataset_digest": job.dataset_digest,
            "run_id": job.run_id,
            "method": job.recipe.method,
            **identity(base),
        },
    )


def copy_beside(base: Path, directory: Path) -> None:
    """Copy tokenizer, template and configuration of a base to a model made from it."""
    for pattern in _BESIDE:
        for file in base.glob(pattern):
            if file.name not in _REWRITTEN:
                shutil.copyfile(file, directory / file.name)


def stored_dtype(base: Path) -> torch.dtype | None:
    """The precision the base's weights are stored in."""
    for file in sorted(base.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - not a mapping
                kind: torch.dtype = opened.get_tensor(name).dtype
                return kind
    return None
