"""Settings of the console, read from `PAWL_CONSOLE_*`."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from libs.runtime.settings import Port, ProcessSettings


def _address(value: str) -> str:
    host, separator, port = value.rpartition(":")
    if not separator or not host or not port.isdigit():
        raise ValueError("must look like host:port")
    return value


Address = Annotated[str, AfterValidator(_address)]


class ConsoleSettings(ProcessSettings):
    """Where to listen and whom to ask. A service without an address is shown as not connected."""

    model_config = SettingsConfigDict(
        env_prefix="PAWL_CONSOLE_", extra="ignore", frozen=True, validate_default=True, hide_input_in_errors=True
    )

    http_host: str = "127.0.0.1"
    http_port: Port
    registry_address: Address
    evaluator_address: Address | None = None
    curation_address: Address | None = None
    trainer_address: Address | None = None
    ingestion_address: Address | None = None
    deadline_seconds: Annotated[float, Field(gt=0, le=30)] = 2.0
    """How long a page waits for a service before it says that the service is away."""

    def addresses(self) -> dict[str, str | None]:
        """Address per service name."""
        named: dict[str, Any] = self.model_dump()
        return {
            name: named[f"{name}_address"] for name in ("registry", "evaluator", "curation", "trainer", "ingestion")
        }
