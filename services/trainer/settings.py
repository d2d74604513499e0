"""Settings of the trainer, from `PAWL_TRAINER_*` and the shared `PAWL_*` variables."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from libs.runtime.settings import ServiceSettings


class TrainerSettings(ServiceSettings):
    """What a trainer needs to know about its machine; everything about a run comes with the command."""

    model_config = SettingsConfigDict(
        env_prefix="PAWL_TRAINER_", extra="ignore", frozen=True, validate_default=True, hide_input_in_errors=True
    )

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: Annotated[int, Field(ge=0)] = 0
    """Compute threads of a run; 0 for every core the process may use."""
    standby: bool = True
    """Keep one process with torch imported ready, so that a job, or one taken over, starts within a second or two."""
    lock_file: Path | None = None
    """The lock the process was installed from; its digest goes into every run manifest."""
