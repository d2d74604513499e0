"""QLoRA: LoRA over a base held in 4-bit NormalFloat, on CPU as well as on GPU."""

from pathlib import Path
from typing import Any, cast

from transformers import BitsAndBytesConfig

from libs.contracts.task.recipe import QloraRecipe
from services.trainer.compute.bases import load_model
from services.trainer.compute.learner import Learner
from services.trainer.compute.machine import Machine
from services.trainer.compute.methods.lora import attach
from services.trainer.domain.protocol import Job


def prepare_nf4(job: Job, machine: Machine) -> Learner:
    """The base in 4 bits with a LoRA; adapter and optimizer stay in fp32.

    Served over the base in its own precision, the adapter loses nothing measurable; merging requantises nothing.
    """
    return attach(load_nf4(job, machine), job, machine)


def load_nf4(job: Job, machine: Machine) -> Any:
    """The base, quantised as it is loaded."""
    recipe = cast("QloraRecipe", job.recipe)
    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=recipe.double_quantisation,
        bnb_4bit_compute_dtype=machine.dtype,
    )
    return load_model(
        Path(job.base), machine, tokens=recipe.max_length, quantization_config=quantised,
        device_map={"": machine.device.type},
    )  # fmt: skip
