"""What a gateway decides: who may ask for what, which version answers, which engine is asked."""

from services.serving.gateway.domain.calls import (
    MAX_OUTPUT_TOKENS,
    Caller,
    Chunk,
    Deadline,
    Embedded,
    Generation,
    Limits,
    Purpose,
    Query,
    SamplingWish,
    TokenLogprob,
    Usage,
)
from services.serving.gateway.domain.engines import pick_engine
from services.serving.gateway.domain.fleet import Demand, demands
from services.serving.gateway.domain.form import Form
from services.serving.gateway.domain.ports import (
    Answers,
    EngineCall,
    Explanation,
    FeedbackDoor,
    Inquiry,
    Records,
    Tables,
    TextBatch,
)
from services.serving.gateway.domain.quotas import Quotas
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
from services.serving.gateway.domain.rules import AUTO_MODEL, Outcome, Resolution, resolve
from services.serving.gateway.domain.tools import ToolReader
from services.serving.gateway.domain.usage import Ledger, UsageKey, Use

__all__ = [
    "AUTO_MODEL",
    "MAX_OUTPUT_TOKENS",
    "Answers",
    "Caller",
    "Choice",
    "Chunk",
    "Deadline",
    "Demand",
    "Embedded",
    "EngineCall",
    "Explanation",
    "FeedbackDoor",
    "Form",
    "Generation",
    "Inquiry",
    "Ledger",
    "Limits",
    "Outcome",
    "Purpose",
    "Query",
    "Quotas",
    "Records",
    "Resolution",
    "SamplingWish",
    "Tables",
    "Target",
    "TextBatch",
    "TokenLogprob",
    "ToolReader",
    "Usage",
    "UsageKey",
    "Use",
    "assignment",
    "choose",
    "demands",
    "parse_model",
    "pick_engine",
    "resolve",
    "sampled_for_shadow",
    "served_versions",
    "unit_of",
]
