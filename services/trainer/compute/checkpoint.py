"""Checkpoints on disk: complete and verified, or not there at all."""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from libs.contracts.errors import DataLoss, FailedPrecondition
from services.trainer.compute.learner import Learner
from services.trainer.domain.protocol import CHECKPOINT_MANIFEST, CHECKPOINT_STATE

_WEIGHTS = "adapter.safetensors"
_OPTIMIZER = "optimizer.safetensors"
_BEST = "best.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class Position:
    """How far a run is. All chance in a step derives from seed and step, so this and the tensors are everything."""

    step: int
    plan_digest: str
    seconds: float
    curve: tuple[tuple[int, float], ...]
    validation: tuple[tuple[int, float], ...] = ()
    split: int = 1
    best: dict[str, torch.Tensor] = field(default_factory=dict)


def write(directory: Path, learner: Learner, optimizer: torch.optim.Optimizer, position: Position) -> Path | None:
    """Write a checkpoint and return its directory: files, then hashes, then a rename, each on disk before the next.

    Of several processes all call it and the first writes; the others get None. What is written is the same however the
    weights are placed, so that a run goes on with another number of processes.
    """
    final = directory / f"step-{position.step:08d}"
    temporary = directory / f".writing-{final.name}-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    named = learner.trainable()
    moments = {
        f"{moment}/{name}": optimizer.state[weight][moment]
        for name, weight in named
        for moment in _MOMENTS
        if weight in optimizer.state
    }
    # One after the other: where weights are shared out, what is written is whole in this process for as long.
    for name, tensors in ((_WEIGHTS, dict(named)), (_OPTIMIZER, moments)):
        held = learner.placement.gather(tensors)
        if held is not None:
            temporary.mkdir(parents=True, exist_ok=True)
            save_file(held, temporary / name)
        del held
    if not temporary.exists():
        return None
    if position.best:
        save_file({name: weight.contiguous() for name, weight in position.best.items()}, temporary / _BEST)
    state = {
        "step": position.step, "plan": position.plan_digest, "seconds": position.seconds, "curve": position.curve,
        "validation": position.validation, "split": position.split,
    }  # fmt: skip
    (temporary / CHECKPOINT_STATE).write_text(json.dumps(state))
    hashes: dict[str, str] = {}
    for file in sorted(temporary.iterdir()):
        _sync(file)
        with file.open("rb") as opened:
            hashes[file.name] = hashlib.file_digest(opened, "sha256").hexdigest()
    (temporary / CHECKPOINT_MANIFEST).write_text(json.dumps({"files": hashes}, sort_keys=True))
    _sync(temporary / CHECKPOINT_MANIFEST)
    _sync(temporary)
    # An attempt that was fenced off may have left the same step; this one is whole.
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    _sync(directory)
    return final


def read(directory: Path, learner: Learner, optimizer: torch.optim.Optimizer, plan_digest: str) -> Position:
    """Put weights and optimizer back to where the (verified) checkpoint left them.

    Raises DataLoss when it cannot be read and FailedPrecondition when it belongs to other inputs.
    """
    try:
        state: dict[str, Any] = json.loads((directory / CHECKPOINT_STATE).read_text())
        weights = load_file(directory / _WEIGHTS)
        moments = load_file(directory / _OPTIMIZER)
        best = load_file(directory / _BEST) if (directory / _BEST).exists() else {}
    except (OSError, ValueError, SafetensorError) as error:
        raise DataLoss(f"checkpoint {directory.name} cannot be read: {error}", reason="CHECKPOINT_BROKEN") from error
    if state["plan"] != plan_digest:
        raise FailedPrecondition("the checkpoint belongs to other rows or another recipe", reason="CHECKPOINT_FOREIGN")
    step = int(state["step"])
    for name, weight in learner.trainable():
        learner.placement.put(weight, weights[name])
        if f"{_MOMENTS[0]}/{name}" in moments:
            held = {moment: torch.zeros_like(weight) for moment in _MOMENTS}
            for moment, tensor in held.items():
                learner.placement.put(tensor, moments[f"{moment}/{name}"])
            device = weight.device if weight.is_cuda else None
            optimizer.state[weight] = {"step": torch.tensor(float(step), device=device), **held}
    curve, validation = (tuple((int(at), float(loss)) for at, loss in state[name]) for name in ("curve", "validation"))
    return Position(step, plan_digest, float(state["seconds"]), curve, validation, int(state["split"]), best)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
