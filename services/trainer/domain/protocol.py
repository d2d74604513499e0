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
    task: str = ""
    system: str = Field("", description="the task's system prompt, for the prompts of the parity check")
    teacher: str | None = Field(None, description="directory of the teacher whose weights are distilled")
    replay: str | None = Field(None, description="directory of the general rows that are mixed in")
    cache: str | None = Field(None, description="directory of tokenised rows, kept between runs")
    split: int = Field(1, ge=1, description="parts that each micro-batch is cut into from the start")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: int = Field(0, ge=0, description="0: every core this process may use")
    memory_limit_bytes: int = Field(0, ge=0, description="0: what the machine has")


class Survey(Word):
    """To the child: look at a run before it is made. Rows come from `dataset`, or are imagined by number and length."""

    kind: Literal["survey"] = "survey"
    base: str
    base_digest: str
    dataset: str | None = None
    dataset_digest: str = ""
    replay: str | None = None
    recipe: RecipeSpec
    rows: int = Field(0, ge=0, description="rows to imagine; with a dataset, 0")
    mean_tokens: int = Field(0, ge=0)
    longest_tokens: int = Field(0, ge=0)
    shown: int = Field(3, ge=0, le=50, description="rows whose mask is shown")
    cache: str | None = None
    simulate: bool = Field(True, description="whether to find the peak memory, which takes seconds")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    planned: Literal["here", "cpu", "cuda"] = Field("here", description="kind of device the memory is found for")
    planned_memory: int = Field(0, ge=0, description="bytes that device has; 0: what is here")
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: int = Field(0, ge=0)
    memory_limit_bytes: int = 0


class Export(Word):
    """To the child: write what a run made as one model to `destination`, in the base's precision or in four bits."""

    kind: Literal["export"] = "export"
    base: str
    adapter: str
    destination: str
    form: Literal["merged", "nf4"] = "merged"
    threads: int = Field(0, ge=0)


class Sweep(Word):
    """To the child: try recipes and compare them, over one load of the base."""

    kind: Literal["sweep"] = "sweep"
    job: Job


Asked = Annotated[Job | Survey | Export | Sweep, Field(discriminator="kind")]
asked: TypeAdapter[Asked] = TypeAdapter(Asked)


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
    skipped: int = Field(0, description="rows of a kind that the method does not learn from")
    trained_share: float = Field(description="share of tokens the loss is taken over")
    xray: str = Field(description="the trained part of one row, as text with its special tokens")
    parameters: int
    trainable_parameters: int
    plan_digest: str
    rows_digest: str = Field("", description="over every row's id, tokens and mask, in the order of the file")
    baseline_bytes: int = Field(0, description="memory held before the model was loaded")
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
    mfu: float = Field(
        0.0, description="share of the device's peak operations, counting 4 (full: 6) per weight and token"
    )
    validation_loss: float | None = None


class Squeezed(Word):
    """From the child: memory ran out at `step`, which is taken again with each micro-batch in `split` parts."""

    kind: Literal["squeezed"] = "squeezed"
    step: int
    split: int
    reason: str


class Sample(Word):
    """An answer written while training: to which row, what was said, what it should be."""

    row_id: str
    said: str
    wanted: str


class Sampled(Word):
    """From the child: answers to look at."""

    kind: Literal["sampled"] = "sampled"
    step: int
    samples: tuple[Sample, ...]


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
    validation: tuple[tuple[int, float], ...] = ()
    best_step: int = Field(0, description="step whose weights the adapter holds, where the best were kept")
    peak_memory_bytes: int = 0
    tokens_per_second: float = 0.0
    mfu: float = 0.0
    split: int = 1


class Failed(Word):
    """From the child: no adapter, and why. `again` when another try may go better."""

    kind: Literal["failed"] = "failed"
    reason: str
    message: str
    again: bool = False


class MaskedRow(Word):
    """One row as it is trained: parts of text in order, each trained or not."""

    row_id: str
    parts: tuple[tuple[str, bool], ...]
    stop_trained: bool


class Surveyed(Word):
    """From the child: what a run would be. `memory` has the parts, in bytes, of one process."""

    kind: Literal["surveyed"] = "surveyed"
    rows: int
    too_long: int
    skipped: int
    mean_tokens: float
    longest_tokens: int
    trained_share: float
    total_steps: int
    tokens: int = Field(description="of the whole run, each row as often as it is seen")
    padded_tokens: int = Field(description="the same with padding")
    parameters: int
    trainable_parameters: int
    memory: dict[str, int]
    mask: tuple[MaskedRow, ...]
    baseline_bytes: int
    memory_total: int = Field(description="of the device at hand, bytes")
    peak_flops: float
    environment: dict[str, str]


class Exported(Word):
    """From the child: the merged model lies in `path`."""

    kind: Literal["exported"] = "exported"
    path: str


class Tried(Word):
    """From the child: a trial has ended; `loss` is that of the validation split, None where training went wrong.

    `pruned`: given up at `step`, being worse there than half of the others.
    """

    kind: Literal["tried"] = "tried"
    trial: int
    trials: int
    values: dict[str, float | int | bool | str]
    loss: float | None
    step: int
    seconds: float
    pruned: bool = False
    why: str = ""


class Swept(Word):
    """From the child: all trials have ended; the number and values of the best."""

    kind: Literal["swept"] = "swept"
    best: int
    values: dict[str, float | int | bool | str]
    loss: float


Said = Annotated[
    Warm
    | Ready
    | Progress
    | Squeezed
    | Sampled
    | Saved
    | Stopped
    | Finished
    | Failed
    | Surveyed
    | Exported
    | Tried
    | Swept,
    Field(discriminator="kind"),
]
said: TypeAdapter[Said] = TypeAdapter(Said)
