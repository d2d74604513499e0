"""The words spoken between the service and the process that trains, one JSON object each."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from libs.contracts.task import RecipeSpec

CHECKPOINT_MANIFEST = "manifest.json"
CHECKPOINT_STATE = "state.json"


class Word(BaseModel):
    """Base of everything said."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Job(Word):
    """To the child: train this. Paths are directories both can read; `resume_from` is a verified checkpoint."""

    kind: Literal["job"] = "job"
    run_id: str
    base: str
    base_digest: str
    dataset: str
    dataset_digest: str
    continue_from: str | None = None
    workspace: str
    resume_from: str | None = None
    recipe: RecipeSpec
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: int = Field(0, ge=0, description="0: every core this process may use")


class Stop(Word):
    """To the child: write a checkpoint after the current step, then end."""

    kind: Literal["stop"] = "stop"


class Warm(Word):
    """From the child: everything heavy is imported, a job can come."""

    kind: Literal["warm"] = "warm"
    seconds: float


class Ready(Word):
    """From the child: model and rows are loaded. What it says about the machine goes into the run manifest."""

    kind: Literal["ready"] = "ready"
    total_steps: int
    start_step: int
    rows: int
    too_long: int = Field(description="rows longer than the recipe's max_length, dropped")
    trained_share: float = Field(description="share of tokens the loss is taken over")
    xray: str = Field(description="the trained part of one row, as text with its special tokens")
    parameters: int
    trainable_parameters: int
    plan_digest: str
    environment: dict[str, str]


class Progress(Word):
    """From the child: step `step` is done."""

    kind: Literal["progress"] = "progress"
    step: int
    total_steps: int
    loss: float
    learning_rate: float
    tokens_per_second: float
    eta_seconds: float
    peak_memory_bytes: int


class Saved(Word):
    """From the child: a checkpoint is on disk, synced and complete."""

    kind: Literal["saved"] = "saved"
    step: int
    path: str


class Stopped(Word):
    """From the child: it ends as asked, with a checkpoint at `step`."""

    kind: Literal["stopped"] = "stopped"
    step: int


class Finished(Word):
    """From the child: the adapter lies in `path`. `seconds` and the curve cover all attempts of the run."""

    kind: Literal["finished"] = "finished"
    path: str
    steps: int
    seconds: float
    final_loss: float
    loss_curve: tuple[tuple[int, float], ...]


class Failed(Word):
    """From the child: no adapter, and why. `again` when another try may go better."""

    kind: Literal["failed"] = "failed"
    reason: str
    message: str
    again: bool = False


Said = Annotated[Warm | Ready | Progress | Saved | Stopped | Finished | Failed, Field(discriminator="kind")]
said: TypeAdapter[Said] = TypeAdapter(Said)
