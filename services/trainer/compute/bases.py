"""Models and tokenizers from directories: checked before anything is computed, loaded without code of theirs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from libs.contracts.errors import FailedPrecondition, InvalidInput
from libs.contracts.ids import digest_bytes
from services.trainer.compute.kernels import attention_of, fit_out, is_long
from services.trainer.compute.machine import Machine

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def check_base(base: Path, *, what: str = "the base") -> dict[str, Any]:
    """Refuse, before anything is computed, a directory that is no causal language model or not safe to load.

    Returns its configuration. Raises FailedPrecondition with the mend in its message.
    """
    config = _config(base, what)
    if "auto_map" in config or any(base.rglob("*.py")):
        raise FailedPrecondition(
            f"{what} asks for code of its own (auto_map or a .py file), which is never run here: convert it to an "
            "architecture that transformers has",
            reason="REMOTE_CODE", field="base",
        )  # fmt: skip
    pickles = sorted(path.name for path in base.rglob("*") if path.suffix in _PICKLES)
    if pickles:
        raise FailedPrecondition(
            f"{what} holds {pickles[0]}; pickles can run code when read: save it again with "
            "save_pretrained(..., safe_serialization=True)",
            reason="PICKLE_WEIGHTS", field="base",
        )  # fmt: skip
    if not any(base.glob("*.safetensors")):
        raise FailedPrecondition(f"{what} has no *.safetensors weights", reason="BASE_INVALID", field="base")
    known = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(str(config.get("model_type")))
    known = (known,) if isinstance(known, str) else tuple(known or ())
    named = [str(name) for name in config.get("architectures") or ()]
    if config.get("is_encoder_decoder") or (named and not set(named) & set(known)):
        raise FailedPrecondition(
            f"{what} is a {named[0] if named else config.get('model_type')}, not a causal language model: choose one "
            "that writes text from left to right (architectures that end in ForCausalLM)",
            reason="NOT_CAUSAL", field="base",
        )  # fmt: skip
    return config


def check_context(config: dict[str, Any], max_length: int) -> None:
    """Refuse sequences longer than the model can place. Raises InvalidInput."""
    inner = config.get("text_config") or config
    context = inner.get("max_position_embeddings") or inner.get("n_positions")
    if isinstance(context, int) and max_length > context:
        raise InvalidInput(
            f"recipe.max_length is {max_length} tokens and the base has a context of {context}: set it to {context} "
            "or less",
            reason="OVER_CONTEXT", field="recipe.max_length",
        )  # fmt: skip


def load_tokenizer(base: Path, *, what: str = "the base") -> tuple[Any, frozenset[int]]:
    """The tokenizer and the ids that end an answer."""
    if not (base / "tokenizer.json").is_file():
        raise FailedPrecondition(f"{what} has no tokenizer.json", reason="BASE_INVALID", field="base")
    try:
        tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise FailedPrecondition(f"{what} has no usable tokenizer: {error}", reason="BASE_INVALID") from error
    stops = {tokenizer.eos_token_id} | set(_generation_stops(base / "generation_config.json"))
    stops.discard(None)
    if not stops:
        raise FailedPrecondition(f"{what}'s tokenizer names no token that ends an answer", reason="NO_STOP_TOKEN")
    return tokenizer, frozenset(stops)


def pad_of(tokenizer: Any, stops: frozenset[int]) -> int:
    """The id that fills rows up; nothing looks at it."""
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(stops))


def load_model(
    base: Path, machine: Machine, *, dtype: torch.dtype | None = None, tokens: int = 0, states: int = 1,
    what: str = "the base", **more: Any,
) -> Any:  # fmt: skip
    """The model on the machine's device, frozen, in `dtype` (default: the machine's), for rows of `tokens`.

    `states` tensors will be held per weight: one, or four where all weights are trained.
    """
    attention = attention_of(machine, is_long(tokens))
    try:
        model = AutoModelForCausalLM.from_pretrained(
            base, dtype=dtype or machine.dtype, attn_implementation=attention, use_safetensors=True,
            local_files_only=True, trust_remote_code=False, **more,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise FailedPrecondition(f"{what} cannot be loaded: {error}", reason="BASE_INVALID") from error
    if "device_map" not in more and machine.shards == 1:
        model.to(machine.device)
    model.requires_grad_(False)
    fit_out(model, machine, tokens, states)
    return model


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


def _config(base: Path, what: str) -> dict[str, Any]:
    try:
        held = json.loads((base / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise FailedPrecondition(f"{what} has no readable config.json: {error}", reason="BASE_INVALID") from error
    if not isinstance(held, dict):
        raise FailedPrecondition(f"{what}'s config.json is not an object", reason="BASE_INVALID")
    return held


def _generation_stops(path: Path) -> Iterator[int]:
    if path.is_file():
        held = json.loads(path.read_text()).get("eos_token_id")
        yield from [held] if isinstance(held, int) else list(held or ())
