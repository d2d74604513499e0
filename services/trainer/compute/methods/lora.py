"""LoRA: a frozen base, small matrices beside every linear layer, and the adapter as it is shipped."""

import json
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from libs.contracts.errors import FailedPrecondition, InvalidInput
from libs.contracts.task.recipe import Adapted
from services.trainer.compute.bases import identity, load_model
from services.trainer.compute.fused import fuse
from services.trainer.compute.learner import Learner
from services.trainer.compute.machine import Machine
from services.trainer.domain.protocol import Job

ADAPTER_FILE = "adapter_model.safetensors"
_SHAPE = {"r": "rank", "use_rslora": "rslora", "use_dora": "dora"}


def prepare_lora(job: Job, machine: Machine) -> Learner:
    """The base with a fresh LoRA on every linear layer, or with the adapter to continue from."""
    model = load_model(Path(job.base), machine, tokens=job.recipe.max_length)
    return attach(model, job, machine)


def attach(base: Any, job: Job, machine: Machine) -> Learner:
    """Put the LoRA of the recipe into a frozen base.

    The generator is seeded before the LoRA is made: its initial values are part of the run's inputs.
    """
    recipe = cast("Adapted", job.recipe)
    torch.manual_seed(recipe.seed)
    config = LoraConfig(
        r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=recipe.dropout, use_rslora=recipe.rslora,
        use_dora=recipe.dora, bias="none", target_modules="all-linear", task_type=TaskType.CAUSAL_LM,
    )  # fmt: skip
    model = get_peft_model(base, config, autocast_adapter_dtype=True)
    if job.continue_from is not None:
        _continue_from(model, Path(job.continue_from), recipe)
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            # Autocast would undo the cast at once: it changes no value and costs a seventh of a step.
            layer.cast_input_dtype_enabled = not machine.autocast
    fuse(model)
    model.train()
    return Learner(model, machine)


def save_adapter(learner: Learner, job: Job, directory: Path) -> None:
    """Write the adapter in PEFT's layout with `pawl.json`; the same weights and run give the same bytes."""
    held = learner.placement.gather(dict(sorted(get_peft_model_state_dict(learner.model).items())))
    if held is None:
        return
    directory.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.to(torch.float32) for name, tensor in held.items()}
    save_file(weights, directory / ADAPTER_FILE, metadata={"format": "pt"})
    config = learner.model.peft_config["default"].to_dict()
    config["inference_mode"] = True
    # A path of this machine says nothing elsewhere and would make equal adapters differ.
    config["base_model_name_or_path"] = job.base_digest
    config["target_modules"] = _targets(learner.model)
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    write_json(directory / "adapter_config.json", plain)
    write_json(
        directory / "pawl.json",
        {
            "base_digest": job.base_digest,
            "dataset_digest": job.dataset_digest,
            "run_id": job.run_id,
            "method": job.recipe.method,
            "rank": cast("Adapted", job.recipe).rank,
            **identity(Path(job.base)),
        },
    )


def write_json(path: Path, value: dict[str, Any]) -> None:
    """JSON that is the same for the same value."""
    path.write_text(json.dumps(value, indent=1, sort_keys=True, default=str) + "\n")


def _targets(model: PeftModel) -> list[str]:
    """Names of the adapted layers, short (`q_proj`) where the short name means exactly the same layers."""
    linear = {name for name, layer in model.get_base_model().named_modules() if isinstance(layer, torch.nn.Linear)}
    adapted = {name.removesuffix(".base_layer") for name in linear if name.endswith(".base_layer")}
    plain = {name for name in linear if ".lora_" not in name and not name.endswith(".base_layer")}
    short = {name.rsplit(".", 1)[-1] for name in adapted}
    return sorted(adapted if short & {name.rsplit(".", 1)[-1] for name in plain} else short)


def _continue_from(model: PeftModel, adapter: Path, recipe: Adapted) -> None:
    try:
        held = json.loads((adapter / "adapter_config.json").read_text())
        weights = load_file(adapter / ADAPTER_FILE)
    except (OSError, ValueError, SafetensorError) as error:
        raise FailedPrecondition(
            f"the adapter to continue from is unusable: {error}", reason="ADAPTER_INVALID"
        ) from error
    for theirs, ours in _SHAPE.items():
        if (held.get(theirs) or 0) != getattr(recipe, ours):
            raise InvalidInput(
                f"the adapter to continue from has {ours} {held.get(theirs)}, the recipe {getattr(recipe, ours)}",
                reason="RANK_CHANGED", field=f"recipe.{ours}",
            )  # fmt: skip
    outcome = set_peft_model_state_dict(model, weights)
    missing = [name for name in outcome.missing_keys if "lora_" in name]
    if missing or outcome.unexpected_keys:
        raise FailedPrecondition("the adapter to continue from is of another architecture", reason="ADAPTER_INVALID")
