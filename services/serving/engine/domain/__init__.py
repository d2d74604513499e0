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
from services.serving.engine.domain.generation import Answer, Piece, Prompt, SamplingChoice, TokenChance
from services.serving.engine.domain.residency import Residency, Version
from services.serving.engine.domain.tooling import in_hermes_form, in_template_form

__all__ = [
    "PINNED_ROLES",
    "AdapterDescription",
    "Answer",
    "Piece",
    "Prompt",
    "Residency",
    "SamplingChoice",
    "TensorShape",
    "TokenChance",
    "Version",
    "Wanted",
    "check_files",
    "check_metadata",
    "check_shapes",
    "choose_pins",
    "in_hermes_form",
    "in_template_form",
    "next_base",
    "wanted_versions",
    "yields_to",
]
