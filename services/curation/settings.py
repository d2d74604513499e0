"""Settings of curation (`PAWL_CURATION_*`)."""

from pydantic_settings import SettingsConfigDict

from libs.runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """What an operator may choose."""

    model_config = SettingsConfigDict(
        env_prefix="PAWL_CURATION_", extra="ignore", frozen=True, validate_default=True, hide_input_in_errors=True
    )

    tenant: str = "default"
    """Tenant of the gRPC doors; commands name their own."""
