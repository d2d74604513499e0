"""What an engine decides: which versions to hold, which adapters to refuse, who may still use what."""

from services.serving.engine.domain.adapters import (
    AdapterDescription,
    AdapterRefused,
    TensorShape,
    check_files,
    check_metadata,
    check_shapes,
)
from services.serving.engine.domain.coalescing import Coalescer
from services.serving.engine.domain.cold import ColdBudget, Occupant, who_leaves
from services.serving.engine.domain.desire import (
    PINNED_ROLES,
    Wanted,
    choose_pins,
    choose_unpin,
    next_base,
    wanted_versions,
    yields_to,
)
from services.serving.engine.domain.generation import Answer, Piece, Prompt, SamplingChoice, TokenChance, Vectors
from services.serving.engine.domain.metering import Meter, Share
from services.serving.engine.domain.residency import FETCHING, LOADING, SMOKE, VERIFYING, Residency, Version
from services.serving.engine.domain.smoke import check_smoke, check_vectors

__all__ = [
    "FETCHING",
    "LOADING",
    "PINNED_ROLES",
    "SMOKE",
    "VERIFYING",
    "AdapterDescription",
    "AdapterRefused",
    "Answer",
    "Coalescer",
    "ColdBudget",
    "Meter",
    "Occupant",
    "Piece",
    "Prompt",
    "Residency",
    "SamplingChoice",
    "Share",
    "TensorShape",
    "TokenChance",
    "Vectors",
    "Version",
    "Wanted",
    "check_files",
    "check_metadata",
    "check_shapes",
    "check_smoke",
    "check_vectors",
    "choose_pins",
    "choose_unpin",
    "next_base",
    "wanted_versions",
    "who_leaves",
    "yields_to",
]
