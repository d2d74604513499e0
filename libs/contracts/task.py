"""The task specification: everything a task declares about itself, in one YAML file."""

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from libs.contracts.ids import NAME_PATTERN

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Probability = Annotated[float, Field(gt=0.0, lt=1.0)]


class Section(BaseModel):
    """Base of every section: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OutputSpec(Section):
    """What a good answer looks like. `schema` (JSON Schema) is checked on every answer when `format` is json."""

    format: Literal["text", "json"] = "text"
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    max_tokens: int = Field(256, ge=1, le=8192)

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)


class ColumnMap(Section):
    """Where the fields of an example stand in an imported row. Without `output` the category is the answer."""

    input: str = "input"
    output: str | None = None
    category: str | None = None
    id: str | None = None
    group: str | None = None
    user: str | None = None
    created_at: str | None = None


class PersonalData(StrEnum):
    """What to do with one kind of personal data."""

    REDACT = "redact"
    DROP = "drop"
    KEEP = "keep"


class RedactionSpec(Section):
    """Policy per kind of personal data; a redacted value becomes a consistent pseudonym such as `<EMAIL_1>`."""

    email: PersonalData = PersonalData.REDACT
    phone: PersonalData = PersonalData.REDACT
    card: PersonalData = PersonalData.REDACT
    iban: PersonalData = PersonalData.REDACT
    ip: PersonalData = PersonalData.REDACT


class DuplicateSpec(Section):
    """Near duplicates: verified Jaccard over word sets at or above `threshold`; rows that differ in a number,
    an identifier or a negation are never merged while `guard` is on.
    """

    near: bool = True
    threshold: Probability = 0.8
    guard: bool = True


class SplitSpec(Section):
    """Fractions of groups; membership is a permanent function of the task's salt and the group."""

    train: Fraction = 0.7
    validation: Fraction = 0.05
    test: Fraction = 0.25

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"train + validation + test must be 1, not {total:g}")
        return self


class DataSpec(Section):
    """How raw rows become a dataset version."""

    columns: ColumnMap = ColumnMap()
    redact: RedactionSpec = RedactionSpec()
    duplicates: DuplicateSpec = DuplicateSpec()
    split: SplitSpec = SplitSpec()
    sources: tuple[str, ...] = Field((), description="feedback sources that may train; empty means all")
    max_rows: int = Field(1_000_000, ge=1)
    min_train_rows: int = Field(20, ge=1)
    max_import_errors: Fraction = Field(0.2, description="an import with a greater share of bad rows is stopped")


class RecipeSpec(Section):
    """How to train. Defaults follow the LoRA notes of the field: all-linear, alpha 2r, loss on completions only."""

    method: Literal["lora"] = "lora"
    start: Literal["base", "stable"] = Field("base", description="train from the bare base or continue from stable")
    rank: Literal[8, 16, 32, 64] = 16
    alpha: int = Field(32, ge=1)
    dropout: Fraction = 0.0
    learning_rate: float = Field(3e-4, gt=0.0, le=1.0)
    warmup_steps: int = Field(10, ge=0)
    batch_size: int = Field(16, ge=1)
    gradient_accumulation: int = Field(1, ge=1)
    epochs: float = Field(3.0, gt=0.0)
    max_steps: int | None = Field(None, ge=1)
    max_length: int = Field(512, ge=16, description="tokens; a longer example is dropped with a count, never cut")
    checkpoint_steps: int = Field(50, ge=1)
    seed: int = 0


class AdmissionSpec(Section):
    """Which feedback may enter the frozen gate suite (as a new suite version), so that poison cannot judge itself."""

    sources: tuple[str, ...] = ()


class SuiteSpec(Section):
    """The gate suite: the test split of the first dataset version, frozen; extended only by admission."""

    max_items: int = Field(400, ge=10)
    admit: AdmissionSpec = AdmissionSpec()


class GateSpec(Section):
    """A rule on a report.

    superiority: the paired difference to `against` exceeds `margin` (interval above it).
    non_inferiority: the paired difference exceeds `-margin`. floor: the metric itself exceeds `at_least`.
    """

    name: str = Field(pattern=NAME_PATTERN)
    kind: Literal["superiority", "non_inferiority", "floor"]
    metric: Literal["exact_match", "json_valid"] = "exact_match"
    against: Literal["base", "stable"] | None = None
    margin: Fraction = 0.0
    at_least: Fraction | None = None
    alpha: Probability = 0.05

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "floor" and self.at_least is None:
            raise ValueError("a floor gate needs 'at_least'")
        if self.kind != "floor" and self.against is None:
            raise ValueError(f"a {self.kind} gate needs 'against' (base or stable)")
        if self.kind == "non_inferiority" and self.margin == 0.0:
            raise ValueError("a non_inferiority gate needs a 'margin' above 0")
        return self


class EvaluationSpec(Section):
    """Suite, gates and what a held-out item is scored by."""

    suite: SuiteSpec = SuiteSpec()
    gates: tuple[GateSpec, ...] = (GateSpec(name="better-than-base", kind="superiority", against="base"),)
    concurrency: int = Field(16, ge=1, le=256)


class ShadowSpec(Section):
    """Shadow pairs: the same request to stable and challenger, scored by correction, praise or rule."""

    rate: Fraction = 1.0
    min_pairs: int = Field(60, ge=1)
    margin: Fraction = Field(0.05, description="non-inferiority margin on the paired score")
    alpha: Probability = 0.05


class CanarySpec(Section):
    """Canary steps test for harm only, per closed user-window."""

    steps: tuple[int, ...] = Field((5, 25, 50, 100), description="per cent of user units, rising, ending with 100")
    min_windows: int = Field(20, ge=1, description="closed canary user-windows needed at each step below 100")
    window_seconds: float = Field(
        60.0, gt=0.0, description="feedback later than this after the answer misses its window"
    )
    harm_ratio: float = Field(1.0, ge=1.0, description="relative risk of bad windows tolerated")
    alpha: Probability = 0.01

    @model_validator(mode="after")
    def _steps_rise(self) -> Self:
        if list(self.steps) != sorted(set(self.steps)) or not self.steps or self.steps[-1] != 100 or self.steps[0] < 1:
            raise ValueError("steps must rise from at least 1 to 100")
        return self


class RolloutSpec(Section):
    """Shadow, then canary steps, then stable."""

    shadow: ShadowSpec = ShadowSpec()
    canary: CanarySpec = CanarySpec()
    stale_seconds: float = Field(60.0, gt=0.0, description="an assessment older than this holds the rollout")


class TriggerSpec(Section):
    """What opens a turn by itself."""

    on_import: bool = True
    corrections: int | None = Field(
        None, ge=1, description="new corrections, of sources that may train, since the last turn began"
    )
    cooldown_seconds: float = Field(0.0, ge=0.0)


class TaskSpec(Section):
    """One specialisation of one base model."""

    task: str = Field(pattern=NAME_PATTERN)
    description: str = ""
    base: str = Field(min_length=1, description="a directory beside the task file, or a Hugging Face model id")
    system: str = Field("", max_length=16_384, description="system prompt for requests that bring none")
    output: OutputSpec = OutputSpec()
    data: DataSpec = DataSpec()
    recipe: RecipeSpec = RecipeSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    rollout: RolloutSpec = RolloutSpec()
    triggers: TriggerSpec = TriggerSpec()
    approvals: int = Field(0, ge=0, description="named approvals needed between a pass and the rollout")
