"""A run as one model that loads without any code of ours: base and adapter merged, or that in four bits."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from libs.contracts.errors import InvalidInput
from libs.contracts.parity import BOUND, PARITY_FILE, QUANTISED_BOUND
from services.trainer.compute.bases import check_base, load_model, load_tokenizer, pad_of
from services.trainer.compute.machine import Machine
from services.trainer.compute.methods import Language
from services.trainer.compute.methods.full import copy_beside, stored_dtype
from services.trainer.compute.methods.lora import write_json
from services.trainer.compute.parity import check_export
from services.trainer.domain.protocol import Export, Exported

_MACHINE = Machine(torch.device("cpu"), torch.float32)
_CONFIGURATION = "config.json"


def export(work: Export) -> Exported:
    """Write the model of a run to `destination`, and beside it what it says to the prompts of the parity record.

    Merged, its log-probabilities are at most 0.1 nats a token from those recorded in training, on the mean; in four
    bits 0.4. Raises FailedPrecondition (PARITY) naming the first token that differs when what was written answers
    otherwise, and InvalidInput when the run made a model that needs no merging.
    """
    source, destination = Path(work.adapter), Path(work.destination)
    shutil.rmtree(destination, ignore_errors=True)
    destination.mkdir(parents=True)
    merges = (source / "adapter_config.json").is_file()
    if not merges and work.form == "merged":
        raise InvalidInput("only a run that made an adapter is exported merged: this one made weights of its own")
    if work.form == "merged":
        _merge(Path(work.base), source, destination)
    else:
        with tempfile.TemporaryDirectory(dir=destination.parent) as name:
            whole = Path(name) if merges else source
            if merges:
                _merge(Path(work.base), source, whole)
            _quantise(whole, destination)
    for name in ("pawl.json", "README.md"):
        if (source / name).is_file():
            shutil.copyfile(source / name, destination / name)
    tokenizer, stops = load_tokenizer(destination)
    language = Language(tokenizer, stops, pad_of(tokenizer, stops))
    # Loaded again from what was written, as whoever takes it will.
    quantised = work.form == "nf4"
    parity = check_export(_written(destination), language, source, QUANTISED_BOUND if quantised else BOUND)
    if parity is not None:
        write_json(destination / PARITY_FILE, {**parity, "precision": "nf4" if quantised else parity["precision"]})
    return Exported(path=str(destination))


def _merge(base: Path, adapter: Path, destination: Path) -> None:
    """Merge in fp32, then round once to the precision the base is stored in."""
    check_base(base)
    kind = stored_dtype(base) or torch.float32
    model = PeftModel.from_pretrained(load_model(base, _MACHINE), adapter, torch_device="cpu")
    merged = model.merge_and_unload(safe_merge=True).to(kind)
    merged.save_pretrained(destination, safe_serialization=True)
    copy_beside(base, destination)


def _quantise(whole: Path, destination: Path) -> None:
    """NF4 with double quantisation, in the layout of bitsandbytes; transformers reads it, vLLM does so no more."""
    check_base(whole)
    how = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )  # fmt: skip
    kind = stored_dtype(whole) or torch.float32
    model = load_model(whole, _MACHINE, dtype=kind, quantization_config=how, device_map={"": "cpu"})
    # The configuration says that the weights are quantised, and how; the plain model's must not take its place.
    copy_beside(whole, destination)
    (destination / _CONFIGURATION).unlink(missing_ok=True)
    model.save_pretrained(destination, safe_serialization=True)


def _written(directory: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, local_files_only=True, use_safetensors=True, trust_remote_code=False,
        device_map={"": "cpu"},
    ).eval()  # fmt: skip
