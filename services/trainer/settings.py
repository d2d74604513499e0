"""Settings of the trainer, from `PAWL_TRAINER_*` and the shared `PAWL_*` variables."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator
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
    memory_limit_bytes: Annotated[int, Field(ge=0)] = 0
    """Memory of a training process; beyond it an allocation fails and the step is cut smaller. 0 for what there is."""
    teacher_keys: dict[str, SecretStr] = Field(default_factory=dict)
    """API key per endpoint of a teacher, as JSON; a key is sent to its own endpoint only."""
    prices: Path | None = None
    """The operator's price table, a JSON object: currency, devices (price per hour by name), kwh,
    managed_per_million_tokens, incumbent_per_request, own_per_request."""
    standby: bool = True
    """Keep one process with torch imported ready, so that a job, or one taken over, starts within a second or two."""
    launcher: Literal["process", "trainjob"] = "process"
    """Where runs are trained: in processes of this machine, or as TrainJobs of Kubeflow over a shared volume."""
    trainjob_address: str = ""
    """host:port where the trainer's door can be reached from the pods of a TrainJob, such as trainer.pawl:7710."""
    door_port: Annotated[int, Field(ge=0, le=65535)] = 7710
    """Port of the door; 0 for a free one."""
    trainjob_namespace: str = "default"
    trainjob_runtime: str = "torch-distributed"
    trainjob_image: str = ""
    """Image of the training pods; empty for the runtime's."""
    trainjob_processes_per_node: Annotated[int, Field(ge=1)] = 1
    trainjob_resources: dict[str, str] = Field(default_factory=dict)
    """Resources of a node as JSON, such as {"nvidia.com/gpu": "8"}."""
    lock_file: Path | None = None
    """The lock the process was installed from; its digest goes into every run manifest."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.launcher == "trainjob" and not self.trainjob_address.rpartition(":")[2].isdigit():
            raise ValueError("launcher trainjob needs PAWL_TRAINER_TRAINJOB_ADDRESS, host:port of this trainer's door")
        return self
