"""Facts each service publishes about itself: `evt.<service>.<aggregate>.<fact>.v1`."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from libs.contracts.envelope import Event
from libs.contracts.estimates import Estimate, Verdict
from libs.contracts.task import TaskSpec


class Fact(Event):
    """Base of all facts: which task they are about."""

    tenant: str
    task: str


# --- ingestion -----------------------------------------------------------------------------------


class SegmentWritten(Fact):
    """A segment of rows is durable and listed. `number` rises by one per (tenant, task), without gaps."""

    subject: ClassVar[str] = "evt.ingestion.segment.written.v1"

    number: int
    digest: str
    rows: int
    kinds: dict[str, int] = Field(description="rows per kind: 'example' for imported ones, else the feedback kind")
    sources: dict[str, int] = Field(default_factory=dict)
    corrections: dict[str, int] = Field(default_factory=dict, description="corrections per source")
    categories: dict[str, int] = Field(default_factory=dict)
    import_id: str | None = None


class ImportCompleted(Fact):
    """An import ended: every row was accepted or quarantined with a reason."""

    subject: ClassVar[str] = "evt.ingestion.import.completed.v1"

    import_id: str
    name: str
    rows: int
    accepted: int
    quarantined: int
    watermark: int = Field(description="number of the last segment of this import")


class RewrittenSegment(BaseModel):
    """A segment that has other bytes than before."""

    model_config = ConfigDict(frozen=True)

    number: int
    before: str = Field(description="digest of the object that is to be deleted")
    after: str = Field(description="digest of the object in its place")


class SegmentsRewritten(Fact):
    """Segments have other bytes; whoever reads segments deletes the old objects once it knows.

    They lost the rows of an erased subject (`user`), or several small ones share one object from now on: there the
    column `number` says which segment a row belongs to, and a segment is what it was, row by row.
    """

    subject: ClassVar[str] = "evt.ingestion.segments.rewritten.v1"

    user: str = ""
    segments: tuple[RewrittenSegment, ...]


# --- curation ------------------------------------------------------------------------------------


class DatasetBuilt(Fact):
    """Dataset version `number` exists; `digest` is its manifest, `suite_digest` that of the frozen gate suite."""

    subject: ClassVar[str] = "evt.curation.dataset.built.v1"

    number: int
    digest: str
    report_digest: str
    suite_digest: str
    suite_version: int
    splits: dict[str, int] = Field(description="rows per split: train, validation, test")
    removed: dict[str, int] = Field(description="rows per reason of removal")
    categories: dict[str, int]


class DatasetRefused(Fact):
    """No dataset could be built, and why (too few rows, no such base...)."""

    subject: ClassVar[str] = "evt.curation.dataset.refused.v1"

    number: int
    reason: str


class SubjectErased(Fact):
    """A subject was erased: from now on no dataset holds a row of `user`, and these versions must not be used.

    `user` is the hash that segments hold. `datasets` are the digests of the dataset versions touched: whoever trained
    on one of them has something to answer for.
    """

    subject: ClassVar[str] = "evt.curation.subject.erased.v1"

    user: str
    rows: int
    datasets: tuple[str, ...]
    numbers: tuple[int, ...]
    reason: str


# --- trainer -------------------------------------------------------------------------------------


class RunFact(Fact):
    """Base of the facts of a run; `epoch` is the fencing epoch of the attempt, rising with each take-over."""

    run_id: str
    epoch: int


class RunStarted(RunFact):
    """An attempt began; `resumed_at_step` > 0 when it continues from a checkpoint."""

    subject: ClassVar[str] = "evt.trainer.run.started.v1"

    total_steps: int
    resumed_at_step: int = 0


class RunProgressed(RunFact):
    """A step report; `tokens_per_second` over the last window, `eta_seconds` to the end of the run.

    `mfu` is the share of the device's peak operations; `validation_loss` the last measured, None before the first.
    """

    subject: ClassVar[str] = "evt.trainer.run.progressed.v1"

    step: int
    total_steps: int
    loss: float
    learning_rate: float
    tokens_per_second: float
    eta_seconds: float
    peak_memory_bytes: int = 0
    mfu: float = 0.0
    validation_loss: float | None = None


class CheckpointSaved(RunFact):
    """A checkpoint is durable in object storage."""

    subject: ClassVar[str] = "evt.trainer.run.checkpointed.v1"

    step: int
    digest: str


class RunCompleted(RunFact):
    """What was trained is durable, `adapter_digest` its manifest; `run_manifest_digest` says how to make it again."""

    subject: ClassVar[str] = "evt.trainer.run.completed.v1"

    adapter_digest: str
    run_manifest_digest: str
    base_digest: str
    dataset_digest: str
    steps: int
    seconds: float
    final_loss: float
    loss_curve: tuple[tuple[int, float], ...]
    killed_at_step: int = Field(
        0, description="last reported step of the attempt before this one, 0 if never interrupted"
    )
    resumed_at_step: int = 0
    whole: bool = Field(False, description="the weights are a base of their own and no adapter to `base_digest`")


class RunFailed(RunFact):
    """The run ended without an adapter."""

    subject: ClassVar[str] = "evt.trainer.run.failed.v1"

    reason: str
    cancelled: bool = False


# --- evaluator -----------------------------------------------------------------------------------


class GateResult(BaseModel):
    """One gate's verdict with the numbers it rests on."""

    model_config = ConfigDict(frozen=True)

    gate: str
    verdict: Verdict
    reason: str
    metric: str
    against: str | None = None
    slice: str | None = None
    estimate: Estimate | None = None


class ReportCompleted(Fact):
    """An evaluation report is durable; `arms[arm][metric]` are estimates, `gates` the verdicts."""

    subject: ClassVar[str] = "evt.evaluator.report.completed.v1"

    report_id: str
    report_digest: str
    version: int
    verdict: Verdict
    gates: tuple[GateResult, ...]
    arms: dict[str, dict[str, Estimate]]
    slices: dict[str, dict[str, dict[str, Estimate]]] = Field(
        default_factory=dict, description="slice -> arm -> metric"
    )


class EvaluationFailed(Fact):
    """No report could be made, and why; never a pass."""

    subject: ClassVar[str] = "evt.evaluator.report.failed.v1"

    report_id: str
    version: int
    reason: str


class SegmentEvidence(BaseModel):
    """Evidence on one segment of users; `alpha` is its part of the whole error budget."""

    model_config = ConfigDict(frozen=True)

    verdict: Verdict
    reason: str = ""
    e_value: float = 0.0
    alpha: float = 0.0
    windows: dict[str, int] = Field(default_factory=dict)
    bad_windows: dict[str, int] = Field(default_factory=dict)


class Assessment(Fact):
    """Evidence on a rollout stage so far. Assessments of an older generation are ignored.

    shadow: `pass` = superiority or non-inferiority shown on pairs; `fail` = inferiority shown.
    canary: `fail` = harm shown; `pass` = enough closed user-windows without harm; else inconclusive.
    """

    subject: ClassVar[str] = "evt.evaluator.assessment.published.v1"

    generation: int
    stage: str = Field(description="shadow or canary")
    version: int
    verdict: Verdict
    reason: str
    e_value: float = Field(description="evidence for the verdict given (against the challenger for fail)")
    alpha: float
    pairs: int = 0
    wins: int = 0
    losses: int = 0
    ties: int = 0
    windows: dict[str, int] = Field(default_factory=dict, description="closed user-windows per role")
    bad_windows: dict[str, int] = Field(default_factory=dict, description="bad user-windows per role")
    requests: dict[str, int] = Field(default_factory=dict, description="requests per role")
    segments: dict[str, SegmentEvidence] = Field(
        default_factory=dict, description="by user segment: harm in one ends the rollout, whatever the whole says"
    )
    inference_cursor: int = Field(0, description="stream sequence read up to")
    outcome_cursor: int = 0
    ledger: dict[str, int] = Field(
        default_factory=dict,
        description="places in the evaluator's ledger (requests, outcomes, windows) it rests on, to be recomputed from",
    )
    assessed_at: datetime


class CampaignOpened(Fact):
    """A blind campaign began; `commitment` fixes the order of pairs and sides before the first vote."""

    subject: ClassVar[str] = "evt.evaluator.campaign.opened.v1"

    campaign_id: str
    report_id: str
    commitment: str


class CampaignClosed(Fact):
    """A blind campaign ended; `head` is the end of its chain of `ballots` entries, which starts at `commitment`."""

    subject: ClassVar[str] = "evt.evaluator.campaign.closed.v1"

    campaign_id: str
    commitment: str
    head: str
    ballots: int


class DropDetected(Fact):
    """Production got worse than the task tolerates: one alarm of the detector over closed user-windows.

    `e_value` of `needed` is the evidence that the mean score of user-windows lies below `floor`; `first_window` to
    `last_window` are the numbers of the live windows it rests on, in `version`'s time as stable.
    """

    subject: ClassVar[str] = "evt.evaluator.drop.detected.v1"

    number: int = Field(description="rises with each drop of the task")
    version: int
    floor: float
    satisfaction: float = Field(description="mean score of the user-windows since the likely change")
    e_value: float
    needed: float
    users: int = Field(description="user-windows since the likely change")
    first_window: int
    last_window: int
    reason: str
    detected_at: datetime


# --- registry ------------------------------------------------------------------------------------


class TaskApplied(Fact):
    """A task was declared or changed."""

    subject: ClassVar[str] = "evt.registry.task.applied.v1"

    revision: int
    spec: TaskSpec
    base_digest: str


class TurnState(StrEnum):
    """Where a turn stands; the last five are ends."""

    CURATING = "curating"
    TRAINING = "training"
    LOADING = "loading"
    EVALUATING = "evaluating"
    AWAITING_APPROVAL = "awaiting_approval"
    SHADOW = "shadow"
    CANARY = "canary"
    PROMOTED = "promoted"
    REFUSED = "refused"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TurnChanged(Fact):
    """A turn entered a state."""

    subject: ClassVar[str] = "evt.registry.turn.changed.v1"

    turn_id: str
    trigger: str
    state: TurnState
    reason: str = ""
    version: int | None = None


class RolloutChanged(Fact):
    """The rollout of `version` entered a stage (shadow, canary, stable or rolled_back) at `share`."""

    subject: ClassVar[str] = "evt.registry.rollout.changed.v1"

    turn_id: str
    generation: int
    stage: str
    version: int
    stable_version: int
    share: float
    spec: TaskSpec
    reason: str = ""
    started_at: datetime


class OverrideGranted(Fact):
    """Somebody, by name and with a reason, waived named gates of a version; the watch for live harm stays."""

    subject: ClassVar[str] = "evt.registry.override.granted.v1"

    version: int
    gates: tuple[str, ...]
    by: str
    reason: str
