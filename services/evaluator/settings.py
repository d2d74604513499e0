"""Settings of the evaluator, read from `PAWL_EVALUATOR_*`."""

from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from libs.runtime.settings import ServiceSettings

Seconds = Annotated[float, Field(gt=0.0, le=86_400.0)]


class EvaluatorSettings(ServiceSettings):
    """What the evaluator needs to run."""

    model_config = SettingsConfigDict(
        env_prefix="PAWL_EVALUATOR_", extra="ignore", frozen=True, validate_default=True, hide_input_in_errors=True
    )

    gateway_address: Annotated[str, Field(pattern=r"^[^\s:/]+:\d{1,5}$|^\[[0-9a-fA-F:]+\]:\d{1,5}$")]
    """`host:port` of the gateway's gRPC."""
    api_key: SecretStr
    """A key with the role `evaluator`."""
    answer_seconds: Seconds = 120.0
    """Deadline of one generation."""
    patience_seconds: Seconds = 120.0
    """How long an item is tried again while serving is away before the job is handed back."""
    routing_seconds: Seconds = 30.0
    """How long a version that the gateway does not know yet is waited for."""
    assess_seconds: Seconds = 1.0
    """How often open watches are looked at."""
    settle_seconds: Annotated[float, Field(ge=0.0, le=3600.0)] = 2.0
    """How long after its end a user-window waits for outcomes still under way."""
    evidence_days: Annotated[float, Field(gt=0.0)] = 90.0
    """How long the ledger of an ended rollout is kept."""
