"""What a gateway decides: who may ask for what, which version answers, which engine is asked."""

from services.serving.gateway.domain.calls import (
    MAX_OUTPUT_TOKENS,
    Caller,
    Chunk,
    Deadline,
    Generation,
    Limits,
    Purpose,
    Query,
    SamplingWish,
    Usage,
)
from services.serving.gateway.domain.engines import pick_engine
from services.serving.gateway.domain.ports import Answers, EngineCall, FeedbackDoor, Inquiry, Records, Tables
from services.serving.gateway.domain.routing import (
    Choice,
    Target,
    assignment,
    choose,
    parse_model,
    sampled_for_shadow,
    served_versions,
    unit_of,
)

__all__ = [
    "MAX_OUTPUT_TOKENS",
    "Answers",
    "Caller",
    "Choice",
    "Chunk",
    "Deadline",
    "EngineCall",
    "FeedbackDoor",
    "Generation",
    "Inquiry",
    "Limits",
    "Purpose",
    "Query",
    "Records",
    "SamplingWish",
    "Tables",
    "Target",
    "Usage",
    "assignment",
    "choose",
    "parse_model",
    "pick_engine",
    "sampled_for_shadow",
    "served_versions",
    "unit_of",
]
