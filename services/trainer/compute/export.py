"""A base and an adapter written as one model, in the base's precision, that loads without any code of ours."""

import shutil
from pathlib import Path

import torch
from peft import PeftModel

from libs.contracts.errors import InvalidInput
from libs.contracts.parity import PARITY_FILE
from services.trainer.compute.bases import check_base, load_model, load_tokenizer, pad_of
from services.trainer.compute.machine import Machine
from services.trainer.compute.methods import Language
from services.trainer.compute.methods.full import copy_beside, stored_dtype
from services.trainer.compute.methods.lora import write_json
from services.trainer.compute.parity import check_export
from services.trainer.domain.protocol import Export, Exported


def merge(export: Export) -> Exported:
    """Merge in fp32, then round once to the precision the base is stored in.

    Raises FailedPrecondition (PARITY) when what was written answers otherwise than base and adapter do.
    """
    base, destination = Path(export.base), Path(export.destination)
    check_base(base)
    if not (Path(export.adapter) / "adapter_config.json").is_file():
        raise InvalidInput("only a run that made an adapter is exported merged: this one made weights of its own")
    kind = stored_dtype(base) or torch.float32
    machine = Machine(torch.device("cpu"), torch.float32)
    model = PeftModel.from_pretrained(load_model(base, machine), export.adapter, torch_device="cpu")
    merged = model.merge_and_unload(safe_merge=True).to(kind)
    shutil.rmtree(destination, ignore_errors=True)
    destination.mkdir(parents=True)
    merged.save_pretrained(destination, safe_serialization=True)
    copy_beside(base, destination)
    for name in ("pawl.json", "README.md"):
        if (Path(export.adapter) / name).is_file():
            shutil.copyfile(Path(export.adapter) / name, destination / name)
    tokenizer, stops = load_tokenizer(base)
    del model, merged
    language = Language(tokenizer, stops, pad_of(tokenizer, stops))
    parity = check_export(load_model(destination, machine).eval(), language, Path(export.adapter))
    if parity is not None:
        write_json(destination / PARITY_FILE, parity)
    return Exported(path=str(destination))
