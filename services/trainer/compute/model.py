"""The base model with its LoRA, the loss over answer tokens only, and the adapter as it is shipped."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from libs.contracts.errors import FailedPrecondition, InvalidInput
from libs.contracts.ids import digest_bytes
from services.trainer.compute.machine import Machine
from services.trainer.domain.protocol import Job

ADAPTER_FILE = "adapter_model.safetensors"
_CHECKPOINTED_ABOVE = 1_000_000_000
_SHORT = 1024
_IGNORED = -100


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded rows: `tokens` [rows, length]; `places` are flat positions whose next token `targets` is trained."""

    tokens: torch.Tensor
    places: torch.Tensor
    targets: torch.Tensor


class Learner:
    """A frozen base with a trainable LoRA in it."""

    def __init__(self, model: PeftModel, machine: Machine) -> None:
        self.model = model
        self.machine = machine
        self._base = model.get_base_model()
        self._decoder = self._base.get_decoder() if hasattr(self._base, "get_decoder") else None
        self._head = self._base.get_output_embeddings()
        self._short_cut = False

    def trainable(self) -> list[tuple[str, torch.nn.Parameter]]:
        """Trained parameters by name, in a fixed order."""
        return [(name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad]

    def loss(self, batch: Batch) -> torch.Tensor:
        """Sum of the cross-entropies (nats) of the trained tokens, fp32 scalar.

        Rows are padded on the right and attention is causal, so no real token sees padding and no mask is needed.
        """
        with torch.autocast(self.machine.device.type, torch.bfloat16, enabled=self.machine.autocast):
            if self._short_cut and self._decoder is not None:
                hidden = self._decoder(input_ids=batch.tokens, use_cache=False).last_hidden_state
                logits = self._head(hidden.flatten(0, 1).index_select(0, batch.places))
            else:
                full = self.model(input_ids=batch.tokens, use_cache=False).logits
                logits = full.flatten(0, 1).index_select(0, batch.places)
        return cross_entropy(logits.float(), batch.targets, reduction="sum")

    def try_short_cut(self, batch: Batch) -> bool:
        """Skip the head for tokens that are not trained, if that gives this model's own logits.

        Some architectures scale or cap logits after the head; they keep the long way.
        """
        if self._decoder is None or self._head is None:
            return False
        one = Batch(batch.tokens[:1], batch.places[batch.places < batch.tokens.shape[1]][:8], batch.targets[:0])
        if not len(one.places):
            return False
        reduced = torch.autocast(self.machine.device.type, torch.bfloat16, enabled=self.machine.autocast)
        with torch.no_grad(), reduced:
            whole = self.model(input_ids=one.tokens, use_cache=False).logits.flatten(0, 1)[one.places].float()
            hidden = self._decoder(input_ids=one.tokens, use_cache=False).last_hidden_state
            short = self._head(hidden.flatten(0, 1)[one.places]).float()
        # A model whose logits are not finite has no size to compare by; the loop will say what is wrong with it.
        size = float(whole.abs().max())
        self._short_cut = math.isfinite(size) and bool(torch.allclose(whole, short, rtol=1e-2, atol=1e-2 * size))
        return self._short_cut


def load_tokenizer(job: Job) -> tuple[Any, frozenset[int]]:
    """The base's tokenizer and the ids that end an answer."""
    if not (Path(job.base) / "tokenizer.json").is_file():
        raise FailedPrecondition("the base has no tokenizer.json", reason="BASE_INVALID")
    try:
        tokenizer = AutoTokenizer.from_pretrained(job.base, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise FailedPrecondition(f"the base has no usable tokenizer: {error}", reason="BASE_INVALID") from error
    stops = {tokenizer.eos_token_id} | set(_generation_stops(Path(job.base) / "generation_config.json"))
    stops.discard(None)
    if not stops:
        raise FailedPrecondition("the base's tokenizer names no token that ends an answer", reason="NO_STOP_TOKEN")
    return tokenizer, frozenset(stops)


def load_learner(job: Job, machine: Machine) -> Learner:
    """The base with a fresh LoRA on every linear layer, or with the adapter to continue from.

    The generator is seeded before the LoRA is made: its initial values are part of the run's inputs.
    """
    try:
        base = AutoModelForCausalLM.from_pretrained(
            job.base, dtype=machine.dtype, attn_implementation=_attention(job, machine), use_safetensors=True,
            local_files_only=True, trust_remote_code=False,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise FailedPrecondition(f"the base cannot be loaded: {error}", reason="BASE_INVALID") from error
    base.to(machine.device)
    base.requires_grad_(False)
    if machine.device.type == "cuda" and sum(p.numel() for p in base.parameters()) > _CHECKPOINTED_ABOVE:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        base.enable_input_require_grads()
    torch.manual_seed(job.recipe.seed)
    config = LoraConfig(
        r=job.recipe.rank, lora_alpha=job.recipe.alpha, lora_dropout=job.recipe.dropout, bias="none",
        target_modules="all-linear", task_type=TaskType.CAUSAL_LM,
    )  # fmt: skip
    model = get_peft_model(base, config, autocast_adapter_dtype=True)
    if job.continue_from is not None:
        _continue_from(model, Path(job.continue_from), job.recipe.rank)
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            # Autocast would undo the cast at once: it changes no value and costs a seventh of a step.
            layer.cast_input_dtype_enabled = not machine.autocast
    model.train()
    return Learner(model, machine)


def collate(rows: list[tuple[tuple[int, ...], tuple[bool, ...]]], pad: int, device: torch.device) -> Batch:
    """One padded batch; the length is rounded up so that few shapes occur and kernels are reused."""
    longest = max(len(tokens) for tokens, _ in rows)
    width = -(-longest // 8) * 8
    tokens = torch.full((len(rows), width), pad, dtype=torch.long)
    targets = torch.full((len(rows), width), _IGNORED, dtype=torch.long)
    for at, (ids, trained) in enumerate(rows):
        tokens[at, : len(ids)] = torch.tensor(ids)
        for place in range(1, len(ids)):
            if trained[place]:
                targets[at, place - 1] = ids[place]
    flat = targets.flatten()
    places = (flat != _IGNORED).nonzero().squeeze(1)
    return Batch(tokens.to(device), places.to(device), flat[places].to(device))


def save_adapter(learner: Learner, job: Job, directory: Path) -> None:
    """Write the adapter in PEFT's layout with `pawl.json`; the same weights and run give the same bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in sorted(get_peft_model_state_dict(learner.model).items())
    }
    save_file(weights, directory / ADAPTER_FILE, metadata={"format": "pt"})
    config = learner.model.peft_config["default"].to_dict()
    config["inference_mode"] = True
    # A path of this machine says nothing elsewhere and would make equal adapters differ.
    config["base_model_name_or_path"] = job.base_digest
    config["target_modules"] = _targets(learner.model)
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    _write_json(directory / "adapter_config.json", plain)
    _write_json(
        directory / "pawl.json",
        {
            "base_digest": job.base_digest,
            "dataset_digest": job.dataset_digest,
            "run_id": job.run_id,
            "rank": job.recipe.rank,
            **identity(Path(job.base)),
        },
    )


def identity(base: Path) -> dict[str, str]:
    """Digests of tokenizer and chat template, as the engine reports them."""
    template = base / "chat_template.jinja"
    if template.is_file():
        text = template.read_bytes()
    else:
        held = base / "tokenizer_config.json"
        text = str(json.loads(held.read_text()).get("chat_template", "") if held.is_file() else "").encode()
    return {
        "tokenizer_digest": digest_bytes((base / "tokenizer.json").read_bytes()),
        "template_digest": digest_bytes(text),
    }


def _attention(job: Job, machine: Machine) -> str:
    # The fused kernel's backward pass on a CPU is slower than plain products, until their memory becomes the matter.
    return "eager" if machine.device.type == "cpu" and job.recipe.max_length <= _SHORT else "sdpa"


def _targets(model: PeftModel) -> list[str]:
    """Names of the adapted layers, short (`q_proj`) where the short name means exactly the same layers."""
    linear = {name for name, layer in model.get_base_model().named_modules() if isinstance(layer, torch.nn.Linear)}
    adapted = {name.removesuffix(".base_layer") for name in linear if name.endswith(".base_layer")}
    plain = {name for name in linear if ".lora_" not in name and not name.endswith(".base_layer")}
    short = {name.rsplit(".", 1)[-1] for name in adapted}
    return sorted(adapted if short & {name.rsplit(".", 1)[-1] for name in plain} else short)


def _continue_from(model: PeftModel, adapter: Path, rank: int) -> None:
    try:
        held = json.loads((adapter / "adapter_config.json").read_text())
        weights = load_file(adapter / ADAPTER_FILE)
    except (OSError, ValueError, SafetensorError) as error:
        raise FailedPrecondition(
            f"the adapter to continue from is unusable: {error}", reason="ADAPTER_INVALID"
        ) from error
    if held.get("r") != rank:
        raise InvalidInput(
            f"the adapter to continue from has rank {held.get('r')}, the recipe {rank}",
            reason="RANK_CHANGED", field="recipe.rank",
        )  # fmt: skip
    outcome = set_peft_model_state_dict(model, weights)
    missing = [name for name in outcome.missing_keys if "lora_" in name]
    if missing or outcome.unexpected_keys:
        raise FailedPrecondition("the adapter to continue from is of another architecture", reason="ADAPTER_INVALID")


def _generation_stops(path: Path) -> Iterator[int]:
    if path.is_file():
        held = json.loads(path.read_text()).get("eos_token_id")
        yield from [held] if isinstance(held, int) else list(held or ())


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True, default=str) + "\n")
