"""A look at weights before vLLM gets them: shapes by header, values by reading them once."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from libs.contracts.errors import InvalidInput
from services.serving.engine.domain import TensorShape, check_files, check_metadata, check_shapes
from services.serving.engine.domain.adapters import CONFIG, METADATA, WEIGHTS

_MAX_JSON = 4 * 1024 * 1024


def tensor_shapes(directory: Path) -> dict[str, TensorShape]:
    """Names and shapes of all tensors in a directory's safetensors files; raises InvalidInput on a broken file."""
    shapes: dict[str, TensorShape] = {}
    for file in sorted(directory.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 - not a mapping
                    shapes[name] = tuple(opened.get_slice(name).get_shape())
        except (SafetensorError, OSError) as failure:
            raise InvalidInput(f"{file.name} is not a safetensors file: {failure}", field=file.name) from failure
    return shapes


def inspect_adapter(
    directory: Path,
    base: dict[str, TensorShape],
    *,
    base_digest: str,
    tokenizer_digest: str,
    template_digest: str,
    max_rank: int,
) -> None:
    """Check a local adapter against this engine's base in every way known to hurt; InvalidInput says why not."""
    check_files(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    description = check_metadata(
        _read_json(directory / CONFIG),
        _read_json(directory / METADATA),
        base_digest=base_digest,
        tokenizer_digest=tokenizer_digest,
        template_digest=template_digest,
        max_rank=max_rank,
    )
    check_shapes(description, tensor_shapes(directory), base)
    _check_finite(directory / WEIGHTS)


def _check_finite(file: Path) -> None:
    import torch

    with safe_open(file, framework="pt") as opened:
        for name in opened.keys():  # noqa: SIM118 - not a mapping
            if not bool(torch.isfinite(opened.get_tensor(name)).all()):
                raise InvalidInput(f"tensor {name!r} holds NaN or infinity", reason="ADAPTER_NOT_FINITE", field=name)


def _read_json(file: Path) -> dict[str, Any]:
    if file.stat().st_size > _MAX_JSON:
        raise InvalidInput(f"{file.name} is larger than {_MAX_JSON} bytes", field=file.name)
    try:
        held = json.loads(file.read_bytes())
    except ValueError as failure:
        raise InvalidInput(f"{file.name} is not JSON: {failure}", field=file.name) from failure
    if not isinstance(held, dict):
        raise InvalidInput(f"{file.name} is not a JSON object", field=file.name)
    return held
