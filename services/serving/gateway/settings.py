"""Settings of a gateway: `PAWL_GATEWAY_*`."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from libs.runtime.settings import Port, ServiceSettings


class GatewaySettings(ServiceSettings):
    """What a gateway needs; it holds no database and no object storage."""

    model_config = SettingsConfigDict(env_prefix="PAWL_GATEWAY_")

    database_url: str = ""
    s3_endpoint: str = ""
    s3_access_key: str = ""
    s3_secret_key: SecretStr = SecretStr("")
    http_host: str = "127.0.0.1"
    http_port: Port

    admission_wait: Annotated[float, Field(ge=0, le=300)] = 30.0
    """Seconds that a request waits for an engine that can serve it: longer than an engine takes to restart."""
    request_seconds: Annotated[float, Field(gt=0, le=3600)] = 120.0
    """Seconds that one answer may take in all; a shorter deadline of the client wins."""
    max_in_flight: Annotated[int, Field(ge=1)] = 256
    """Requests at once; one more is answered with 429."""
    outside: Path | None = None
    """JSON file of servers that speak OpenAI's API and are asked like engines: `[{"name", "url", "base_digest",
    "models": {version digest: its name there}, "key_variable"}]`."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 1024 * 1024
    max_messages: Annotated[int, Field(ge=1)] = 128
    hedge_after: Annotated[float, Field(ge=0)] = 0.0
    """Seconds without a first token after which a second engine is asked too, and the first to speak is heard; 0 never.
    Under load it makes the load worse: set it well above the usual time to the first token, or not at all."""
    shadow_in_flight: Annotated[int, Field(ge=0)] = 4
    """Mirrored requests at once; one more is dropped."""
    shadow_below: Annotated[int, Field(ge=0)] = 32
    """Requests are mirrored while at most so many answers are under way: half of what an engine's batch takes."""
    journal_queue: Annotated[int, Field(ge=1)] = 4096
    """Inference records waiting in memory; one more goes to the spill file."""
    journal_spill_mib: Annotated[int, Field(ge=1)] = 256
    """Size of the spill file while the broker is away; beyond it records are dropped and counted."""

    @model_validator(mode="after")
    def _http_port_is_free(self) -> Self:
        if self.http_port and self.http_port in (self.grpc_port, self.health_port):
            raise ValueError(f"http_port {self.http_port} is used for gRPC or health too")
        return self
