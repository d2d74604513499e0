"""Settings of the registry, read from `PAWL_REGISTRY_*`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from libs.runtime.settings import ServiceSettings


class RegistrySettings(ServiceSettings):
    """What the registry needs to run."""

    model_config = SettingsConfigDict(
        env_prefix="PAWL_REGISTRY_", extra="ignore", frozen=True, validate_default=True, hide_input_in_errors=True
    )

    keys: Path | None = None
    """JSON file of the API keys by their hash, `[{"name", "key_hash", "tenant", "roles"}]`; read when it changes."""
    rules: Path | None = None
    """YAML or JSON file of an operator's routing rules, one document per tenant; read when it changes."""
    tick_seconds: Annotated[float, Field(gt=0, le=60)] = 1.0
    """How often what nobody announces is looked at: engines, cooldowns, the keys file."""
    engine_patience_seconds: Annotated[float, Field(gt=0)] = 20.0
    """An engine that has not beaten for so long does not count."""
