"""Settings of curation (`PAWL_CURATION_*`)."""

from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from libs.runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """What an operator may choose."""

    model_config = SettingsConfigDict(
        env_prefix="PAWL_CURATION_", extra="ignore", frozen=True, validate_default=True, hide_input_in_errors=True
    )

    tenant: str = "default"
    """Tenant of the gRPC doors; commands name their own."""
    model_key: SecretStr = SecretStr("")
    """Bearer token for the teachers and judges that tasks name."""
    model_seconds: Annotated[float, Field(gt=0, le=3600)] = 120.0
    """Longest wait, in seconds, for one reply of a teacher or judge."""
    model_proxy: bool = False
    """Whether teachers and judges are reached through the environment's proxy."""
