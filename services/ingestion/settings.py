"""Settings of ingestion (`PAWL_INGESTION_*`)."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from libs.runtime.settings import Port, ServiceSettings


class Settings(ServiceSettings):
    """What an operator may choose; times in seconds."""

    model_config = SettingsConfigDict(
        env_prefix="PAWL_INGESTION_", extra="ignore", frozen=True, validate_default=True, hide_input_in_errors=True
    )

    tenant: str = "default"
    """Tenant of the gRPC doors; feedback names its own in the subject."""
    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 5000
    batch_wait: Annotated[float, Field(gt=0, le=10)] = 0.3
    pace: Annotated[float, Field(ge=0, le=10)] = 0.3
    """Least time between two segments of a quiet stream: what a signal may wait so that segments do not get tiny."""
    join_patience: Annotated[float, Field(ge=0)] = 60.0
    """How long feedback waits for the log of its inference before it goes on unjoined; while older inferences are still
    to be read it waits on.
    """
    join_days: Annotated[float, Field(gt=0)] = 14.0
    """How many days an inference stays joinable."""
    segment_rows: Annotated[int, Field(ge=1, le=100_000)] = 5000
    max_import_bytes: Annotated[int, Field(ge=1)] = 64 * 1024**3
    """What one imported file may have; it is spooled to disk, never held in memory."""
    import_buckets: str = ""
    """Buckets that `s3://` imports may read, comma-separated; empty: all that the credentials open but our own."""
    http_host: str = "127.0.0.1"
    http_port: Port | None = None
    """Port of the HTTP door for imports; none: there is no such door."""
