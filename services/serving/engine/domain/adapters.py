"""Which adapters may be loaded: everything that would make vLLM answer wrongly or die is refused before it sees it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from libs.contracts.errors import InvalidInput

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
METADATA = "pawl.json"

TensorShape = tuple[int, ...]

_TENSOR = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight$")
_HARMLESS_SUFFIXES = (".json", ".safetensors", ".md", ".txt", ".jinja")


class AdapterRefused(InvalidInput):
    """An adapter could not be loaded; the engine itself is fine."""


@dataclass(frozen=True, slots=True)
class AdapterDescription:
    """What the two JSON files of an adapter say: rank and target modules (bare names, such as `q_proj`)."""

    rank: int
    targets: frozenset[str]


def check_files(paths: Iterable[str]) -> None:
    """Refuse a tree that is not an adapter, or that holds anything a loader might execute. Raises InvalidInput."""
    held = set(paths)
    for needed in (CONFIG, WEIGHTS, METADATA):
        if needed not in held:
            raise InvalidInput(f"the adapter has no {needed}", reason="ADAPTER_INCOMPLETE", field=needed)
    for path in sorted(held):
        if not path.endswith(_HARMLESS_SUFFIXES):
            raise InvalidInput(
                f"{path!r} is not allowed in an adapter: safetensors and text only",
                reason="ADAPTER_UNSAFE_FILE",
                field=path,
            )


def check_metadata(
    config: Mapping[str, Any],
    origin: Mapping[str, Any],
    *,
    base_digest: str,
    tokenizer_digest: str,
    template_digest: str,
    max_rank: int,
) -> AdapterDescription:
    """Read `adapter_config.json` and `pawl.json`; InvalidInput names the first field that rules the adapter out."""
    for name, ours in (
        ("base_digest", base_digest),
        ("tokenizer_digest", tokenizer_digest),
        ("template_digest", template_digest),
    ):
        theirs = origin.get(name)
        if name == "base_digest" and not theirs:
            raise InvalidInput(f"{METADATA} does not say which base it was trained on", field=name)
        if theirs and theirs != ours:
            what = name.removesuffix("_digest")
            raise InvalidInput(
                f"the adapter was trained on another {what}: {theirs}, this engine serves {ours}",
                reason=f"OTHER_{what.upper()}",
                field=name,
            )
    if config.get("peft_type") != "LORA":
        raise InvalidInput(f"peft_type {config.get('peft_type')!r} is not LORA", field="peft_type")
    for name, neutral in (("modules_to_save", (None, [])), ("use_dora", (None, False)), ("bias", (None, "none"))):
        if config.get(name) not in neutral:
            raise InvalidInput(f"{name}={config.get(name)!r} cannot be served beside other adapters", field=name)
    if config.get("rank_pattern") or config.get("alpha_pattern"):
        raise InvalidInput("per-module ranks cannot be served", field="rank_pattern")
    rank = config.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= max_rank:
        raise InvalidInput(f"rank {rank!r} is not between 1 and {max_rank}", reason="ADAPTER_RANK", field="r")
    targets = config.get("target_modules")
    if not isinstance(targets, list) or not targets or not all(isinstance(each, str) for each in targets):
        raise InvalidInput("target_modules must list the adapted modules by name", field="target_modules")
    return AdapterDescription(rank, frozenset(each.rpartition(".")[2] for each in targets))


def check_shapes(
    description: AdapterDescription, tensors: Mapping[str, TensorShape], base: Mapping[str, TensorShape]
) -> None:
    """Check every tensor of the adapter against the weight it is added to; InvalidInput names the tensor.

    `tensors` and `base` map names to shapes as in the safetensors headers: A is (rank, in), B is (out, rank) for a
    base weight of (out, in). A base that ships fused or quantised weights lists other names; those go unchecked.
    """
    sides: dict[str, set[str]] = {}
    for name, shape in tensors.items():
        match = _TENSOR.match(name)
        if match is None:
            raise InvalidInput(f"tensor {name!r} is not a LoRA weight", reason="ADAPTER_TENSOR", field=name)
        module, side = match["module"], match["side"]
        if module.rpartition(".")[2] not in description.targets:
            raise InvalidInput(f"tensor {name!r} is not of a target module", reason="ADAPTER_TENSOR", field=name)
        if len(shape) != 2 or shape[0 if side == "A" else 1] != description.rank:
            raise InvalidInput(
                f"tensor {name!r} has shape {list(shape)}, rank {description.rank} was declared",
                reason="ADAPTER_RANK",
                field=name,
            )
        weight = base.get(f"{module}.weight")
        width = shape[1] if side == "A" else shape[0]
        if weight is not None and width != weight[1 if side == "A" else 0]:
            raise InvalidInput(
                f"tensor {name!r} has shape {list(shape)} but the base's weight has {list(weight)}",
                reason="ADAPTER_SHAPE",
                field=name,
            )
        if base and weight is None and _lists_plain_weights(base) and not _is_fused(module, base):
            raise InvalidInput(f"the base has no module {module!r}", reason="ADAPTER_TENSOR", field=name)
        sides.setdefault(module, set()).add(side)
    if not sides:
        raise InvalidInput("the adapter holds no weights", reason="ADAPTER_TENSOR", field=WEIGHTS)
    for module, found in sides.items():
        if found != {"A", "B"}:
            raise InvalidInput(f"module {module!r} has lora_{min(found)} only", reason="ADAPTER_TENSOR", field=module)


def _lists_plain_weights(base: Mapping[str, TensorShape]) -> bool:
    return any(name.endswith("_proj.weight") for name in base)


def _is_fused(module: str, base: Mapping[str, TensorShape]) -> bool:
    """Whether the base has the parent of the module but under fused names, as mixtures of experts do."""
    parent = module.rpartition(".")[0]
    return (
        parent != ""
        and any(name.startswith(f"{parent}.") for name in base)
        and not any(name.startswith(f"{parent}.") and name.endswith("_proj.weight") for name in base)
    )
