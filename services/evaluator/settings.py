"""Settings of the evaluator, read from `PAWL_EVALUATOR_*`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, TypeAdapter, ValidationError
from pydantic_settings import SettingsConfigDict

from libs.contracts.errors import InvalidInput
from libs.contracts.task import PriceSpec
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
    answers_days: Annotated[float, Field(gt=0.0)] = 90.0
    """How long an answer is kept that no report has used again."""
    prices: str = ""
    """A JSON file with the operator's prices: {arm: {"input": per million tokens, "output": per million tokens}}."""
    harness_python: str = ""
    """An interpreter that has lm-eval, for suites of kind harness; empty is the evaluator's own."""
    assess_seconds: Seconds = 1.0
    """How often open watches are looked at."""
    production_seconds: Seconds = 60.0
    """How often rates and drift of production are measured for those who alert on them."""
    settle_seconds: Annotated[float, Field(ge=0.0, le=3600.0)] = 2.0
    """How long after its end a user-window waits for outcomes still under way."""
    evidence_days: Annotated[float, Field(gt=0.0)] = 90.0
    """How long the ledger of an ended rollout is kept."""


def read_prices(path: str) -> dict[str, PriceSpec]:
    """The operator's prices per arm; none without a file. InvalidInput names what is wrong with it."""
    if not path:
        return {}
    try:
        return TypeAdapter(dict[str, PriceSpec]).validate_json(Path(path).read_bytes())
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}", field="prices") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"{path}: {place}: {first['msg']}", field="prices") from error
