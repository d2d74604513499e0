"""What an engine decides: which versions to hold, which adapters to refuse, who may still use what."""

from services.serving.engine.domain.adapters import (
    AdapterDescription,
    TensorShape,
    check_files,
    check_metadata,
    check_shapes,
)
from services.serving.engine.domain.desire import (
    PINNED_ROLES,
    Wanted,
    choose_pins,
    next_base,
    wanted_versions,
    yields_to,
)
from services.serving.engine.domain.generation import Answer, Piece, Prompt, SamplingChoice
from services.serving.engine.domain.residency import Residency, Version

__all__ = [
    "PINNED_ROLES",
    "AdapterDescription",
    "Answer",
    "Piece",
    "Prompt",
    "Residency",
    "SamplingChoice",
    "TensorShape",
    "Version",
    "Wanted",
    "check_files",
    "check_metadata",
    "check_shapes",
    "choose_pins",
    "next_base",
    "wanted_versions",
    "yields_to",
]
