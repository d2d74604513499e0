"""The most memory a step holds, found without computing it: real model and loss on tensors that are only shapes."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import AutoConfig, AutoModelForCausalLM

from services.trainer.compute.batches import Batch
from services.trainer.compute.kernels import attention_of, is_long, recompute, recomputes
from services.trainer.compute.learner import Learner
from services.trainer.compute.machine import Machine
from services.trainer.compute.methods.lora import attach
from services.trainer.compute.parity import SMALL
from services.trainer.domain.protocol import Job, Survey

_LAYERS = (1, 2)
_WHOLE_LAYERS = 3
"""Layers that are whole at once where weights are shared out: one computes, one is on its way, one is given back."""


class _Ledger(TorchDispatchMode):  # type: ignore[misc]
    """Counts bytes of living tensors and the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.held = 0
        self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_iter(out):
            if isinstance(value, torch.Tensor):
                self.add(value)
        return out

    def add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata  # noqa: SLF001 - what tells storages apart while they live
        if key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self.held += size
        self.most = max(self.most, self.held)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.held -= size


def step_memory(survey: Survey, machine: Machine, batch: tuple[int, int, int], memory: int) -> dict[str, int]:
    """Bytes by part for the largest batch of a run, on a device of `memory` bytes.

    `batch` says how many sequences of how many tokens it has, and how many of them all are trained.

    One and two layers are run and the rest is their difference, repeated; `parameters` and `trainable` are counts.
    Parts: weights, adapter, gradients, optimizer, activations, and `saving`, what the end of a run or a checkpoint
    needs at once in place of activations and gradients.
    """
    config = AutoConfig.from_pretrained(survey.base, local_files_only=True, trust_remote_code=False)
    inner = config.get_text_config()
    layers = int(inner.num_hidden_layers)
    device = survey.planned if survey.planned != "here" else machine.device.type
    kind = torch.bfloat16 if device == "cuda" else machine.dtype

    def found(light: bool) -> dict[str, int]:
        small, large = (_run(survey, config, count, (device, kind), batch, light=light) for count in _LAYERS)
        layer = {name: large[name] - small[name] for name in small}
        parts = _parts(survey, {name: small[name] + layer[name] * (layers - 1) for name in small}, kind, device)
        at_once = small["parameters"] + (_WHOLE_LAYERS - 1) * layer["parameters"]
        return (
            _shared(parts, survey.recipe.processes, at_once * kind.itemsize, device) if survey.recipe.shard else parts
        )

    parts = found(light=False)
    held = parts["weights"] * (4 if survey.recipe.method == "full" else 1)
    if device != "cpu" and recomputes(config, held, survey.recipe.max_length, memory):
        parts = found(light=True)
    return parts


def _shared(parts: dict[str, int], processes: int, at_once: int, device: str) -> dict[str, int]:
    """The parts of one of so many processes; `at_once` bytes are whole while a layer computes."""
    split = {name: -(-parts[name] // processes) for name in ("weights", "adapter", "gradients", "optimizer")}
    # In the processor's memory: a model is whole before it is shared out, and the first process gathers what it writes,
    # at most both moments.
    saving = max(parts["weights"] - split["weights"], parts["optimizer"]) if device == "cpu" else 0
    return {**parts, **split, "activations": parts["activations"] + at_once, "saving": saving}


def _parts(survey: Survey, whole: dict[str, int], kind: torch.dtype, device: str) -> dict[str, int]:
    full, quantised = survey.recipe.method == "full", survey.recipe.method == "qlora"
    stored = 4 if full else kind.itemsize
    weights = whole["parameters"] * stored
    in_step = max(0, whole["most"] - weights - whole["trainable"] * (0 if full else 4))
    held = int(whole["linear"] * 0.52) + (whole["parameters"] - whole["linear"]) * stored if quantised else weights
    adapter = 0 if full else whole["trainable"] * 4
    optimizer = whole["trainable"] * 8
    gradients = whole["trainable"] * 4
    activations = max(0, in_step - gradients)
    if survey.recipe.processes > 1 and not survey.recipe.shard:
        # Once the activations are gone, the gradients of all are summed beside this process's own.
        activations = max(activations, gradients)
    # The parity record is computed in fp32 where that is affordable.
    small = device == "cpu" or whole["parameters"] < SMALL
    exact = whole["parameters"] * (4 - stored) if small and not quantised and not survey.recipe.shard else 0
    return {
        "parameters": whole["parameters"],
        "trainable": whole["trainable"],
        "weights": held,
        "adapter": adapter,
        "gradients": gradients,
        "optimizer": optimizer,
        "activations": activations,
        "saving": max(optimizer, exact),
    }


def _run(
    survey: Survey,
    config: Any,
    layers: int,
    place: tuple[str, torch.dtype],
    batch: tuple[int, int, int],
    *,
    light: bool,
) -> dict[str, int]:
    device, kind = place
    rows, width, trained = batch
    # A build without CUDA cannot even imagine one: there the GPU's kernels and precision are laid on this processor.
    real = device if device == "cpu" or torch.cuda.is_available() else "cpu"
    machine = Machine(torch.device(real), kind)
    long = is_long(survey.recipe.max_length)
    attention = attention_of(Machine(torch.device("cpu"), kind), long) if device == "cpu" else "sdpa"
    stored = torch.float32 if survey.recipe.method == "full" else kind
    with _imagined(config, layers), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=stored, attn_implementation=attention)
        learner = _dressed(survey, model, machine, light=light)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.device(real):
        _place(learner.model, mode, torch.device(real))
        linear = sum(
            layer.weight.numel()
            for name, layer in learner.plain.named_modules()
            if isinstance(layer, torch.nn.Linear) and ".lora_" not in name and "lm_head" not in name
        )
        parameters = sum(weight.numel() for name, weight in learner.plain.named_parameters() if ".lora_" not in name)
        trainable = sum(weight.numel() for _, weight in learner.trainable())
        learner.assume_short_cut()
        tokens = torch.zeros((rows, width), dtype=torch.long)
        places = torch.zeros(trained, dtype=torch.long)
        made = Batch(tokens, None, places, places, places, rows, tuple(range(rows)))
        with _Ledger() as ledger:
            for weight in learner.model.parameters():
                ledger.add(weight)
            if getattr(survey.recipe, "kl_to_base", 0.0):
                own, apart = learner.losses_and_divergences(made)
                (own.sum() + apart.sum()).backward()
            else:
                learner.losses(made).sum().backward()
    return {"most": ledger.most, "parameters": parameters, "trainable": trainable, "linear": linear}


def _place(model: torch.nn.Module, mode: FakeTensorMode, device: torch.device) -> None:
    """Give the weights of a model without storage a device, still without storage."""
    made: dict[int, torch.Tensor] = {}

    def placed(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in made:
            fake = mode.fake_tensor_converter.from_meta_and_device(mode, tensor.detach(), device)
            made[id(tensor)] = (
                torch.nn.Parameter(fake, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else fake
            )
        return made[id(tensor)]

    for module in model.modules():
        for held in (module._parameters, module._buffers):  # noqa: SLF001 - there is no public way to replace them
            for name, tensor in held.items():
                if tensor is not None and tensor.device.type == "meta":
                    held[name] = placed(tensor)


def _dressed(survey: Survey, model: Any, machine: Machine, *, light: bool) -> Learner:
    full = survey.recipe.method == "full"
    model.requires_grad_(full)
    if light:
        recompute(model)
    if full:
        model.train()
        return Learner(model, machine)
    job = Job(
        run_id="survey", base=survey.base, base_digest=survey.base_digest, dataset="", dataset_digest="", workspace="",
        recipe=survey.recipe,
    )  # fmt: skip
    return attach(model, job, machine)


@contextmanager
def _imagined(config: Any, layers: int) -> Iterator[None]:
    """The configuration with another number of layers, for the time being."""
    inner = config.get_text_config()
    before = {name: getattr(inner, name, None) for name in ("num_hidden_layers", "layer_types")}
    inner.num_hidden_layers = layers
    if before["layer_types"]:
        inner.layer_types = before["layer_types"][:layers]
    try:
        yield
    finally:
        for name, value in before.items():
            if value is not None:
                setattr(inner, name, value)
