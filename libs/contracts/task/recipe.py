"""How a task's model is trained: one section per method, told apart by `method`."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, TypeAdapter, model_validator

from libs.contracts.task.section import Fraction, Section

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class ValidationSpec(Section):
    """How the validation split steers a run. Without `every_steps` it is measured once, at the end."""

    every_steps: int | None = Field(None, ge=1)
    patience: int | None = Field(
        None, ge=1, description="stop after this many measurements without a better one; the best weights are kept"
    )
    min_delta: float = Field(0.0, ge=0.0, description="nats per token that count as better")
    max_rows: int = Field(256, ge=1, description="the first rows of the split, in the order of their ids")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.patience is not None and self.every_steps is None:
            raise ValueError("patience needs every_steps: how often the validation split is measured")
        return self


class SampleSpec(Section):
    """Answers written while training, to look at: greedy, on the first rows of the validation split."""

    every_steps: int = Field(100, ge=1)
    rows: int = Field(2, ge=1, le=16)
    max_tokens: int = Field(48, ge=1, le=1024)


class ReplaySpec(Section):
    """Rows of general data mixed into every epoch, against forgetting what the task does not ask for."""

    dataset: Digest = Field(description="digest of the rows, as `pawl replay` prints it")
    share: float = Field(0.2, gt=0.0, lt=1.0, description="of all rows trained on; drawn by seed, each at most once")


class RangeSpec(Section):
    """Numbers from `low` to `high`, drawn evenly, or evenly in the logarithm."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("low must be below high, and above 0 where log is true")
        return self


class SweepSpec(Section):
    """A small search: `pawl sweep` trains with values of `space` and compares the losses on the validation split."""

    space: dict[str, RangeSpec | tuple[float | int | bool, ...]] = Field(
        min_length=1, max_length=6, description="option of the recipe: a range, or a list of values"
    )
    trials: int = Field(8, ge=1, le=200)
    max_steps: int | None = Field(None, ge=1, description="of a trial; default: as many as the recipe's")
    at_once: int = Field(
        4, ge=1, le=32, description="trials in one pass over the base, where they differ in rank, scale or rate alone"
    )

    @model_validator(mode="after")
    def _choices(self) -> Self:
        if any(not held for held in self.space.values() if isinstance(held, tuple)):
            raise ValueError("a list of values to try must not be empty")
        return self


class Training(Section):
    """What every method has."""

    start: Literal["base", "stable"] = Field("base", description="train from the bare base or continue from stable")
    learning_rate: float = Field(3e-4, gt=0.0, le=1.0)
    warmup_steps: int = Field(10, ge=0)
    batch_size: int = Field(16, ge=1)
    gradient_accumulation: int = Field(1, ge=1)
    epochs: float = Field(3.0, gt=0.0)
    max_steps: int | None = Field(None, ge=1)
    max_length: int = Field(512, ge=16, description="tokens; a longer example is never cut, see long_rows")
    long_rows: Literal["drop", "refuse"] = Field("drop", description="drop with a count, or refuse the run")
    max_dropped: Fraction = Field(0.5, description="a run that would drop a greater share of its rows is refused")
    packing: bool = Field(False, description="several examples in one sequence of max_length, blind to each other")
    validation: ValidationSpec = ValidationSpec()
    samples: SampleSpec | None = None
    replay: ReplaySpec | None = None
    sweep: SweepSpec | None = None
    processes: int = Field(1, ge=1, le=1024, description="processes that share each step, one per GPU where there are")
    shard: bool = Field(False, description="each of the processes holds a part of the weights and their state (FSDP2)")
    checkpoint_steps: int = Field(50, ge=1)
    seed: int = 0

    @model_validator(mode="after")
    def _shared_out(self) -> Self:
        if self.shard and self.processes == 1:
            raise ValueError("shard needs processes: how many hold a part each")
        return self


class Adapted(Training):
    """What every method has that trains a LoRA: on all linear layers, alpha 2r (the field's notes)."""

    rank: Literal[8, 16, 32, 64] = 16
    alpha: int = Field(32, ge=1)
    dropout: Fraction = 0.0
    rslora: bool = Field(False, description="scale by alpha over the root of the rank; for ranks of 64 and more")
    dora: bool = Field(False, description="train direction and size apart; can be exported merged, not served")


class _Answers(Adapted):
    kl_to_base: float = Field(
        0.0, ge=0.0, le=100.0, description="weight of the divergence from the base, per trained token"
    )


class LoraRecipe(_Answers):
    """Low-rank adapters over frozen weights (Hu and others, 2021)."""

    method: Literal["lora"] = "lora"


class QloraRecipe(_Answers):
    """LoRA over a base held in 4-bit NormalFloat (Dettmers and others, 2023)."""

    method: Literal["qlora"] = "qlora"
    double_quantisation: bool = True

    @model_validator(mode="after")
    def _in_one_piece(self) -> Self:
        if self.shard:
            raise ValueError("a base in 4 bits is not shared out: shard with method lora, or qlora in each process")
        return self


class FullRecipe(Training):
    """Every weight is trained; the result is a base of its own."""

    method: Literal["full"] = "full"
    learning_rate: float = Field(2e-5, gt=0.0, le=1.0)


class TeacherEndpoint(Section):
    """A teacher that answers through an OpenAI-compatible endpoint; its key is a setting of the trainer."""

    endpoint: str = Field(pattern=r"^https?://[^\s]+$", description="such as https://host/v1")
    model: str = Field(min_length=1)
    max_tokens: int = Field(512, ge=1)
    temperature: float = Field(0.0, ge=0.0, le=2.0)
    concurrency: int = Field(8, ge=1, le=256)


class DistilSequenceRecipe(_Answers):
    """Learn a teacher's answers (Kim and Rush, 2016)."""

    method: Literal["distil-sequence"] = "distil-sequence"
    teacher: TeacherEndpoint
    gold_share: Fraction = Field(0.0, description="share of the rows, drawn by seed, that keep their own answer")


class DistilLogitsRecipe(Adapted):
    """Learn a teacher's distribution over each next token (Hinton and others, 2015) mixed with the row's own answer."""

    method: Literal["distil-logits"] = "distil-logits"
    teacher: Digest = Field(description="digest of the teacher's directory, as `pawl teacher` prints it")
    temperature: float = Field(2.0, gt=0.0, le=20.0)
    mix: Fraction = Field(0.5, description="weight of the teacher; the rest is on the row's own answer")
    top_k: int = Field(64, ge=1, le=4096, description="teacher probabilities kept per token; the rest is one bucket")


class _Preferences(Adapted):
    @model_validator(mode="after")
    def _unpacked(self) -> Self:
        if self.packing:
            raise ValueError("packing is for methods that learn answers; preferences compare whole sequences")
        if self.replay is not None:
            raise ValueError("replay is for methods that learn answers; preferences are measured from where they began")
        return self


class DpoRecipe(_Preferences):
    """Direct preference optimisation over pairs (Rafailov and others, 2023)."""

    method: Literal["dpo"] = "dpo"
    learning_rate: float = Field(1e-5, gt=0.0, le=1.0)
    beta: float = Field(0.1, gt=0.0, le=10.0)
    label_smoothing: float = Field(0.0, ge=0.0, lt=0.5)
    sft_weight: float = Field(0.0, ge=0.0, description="weight of the chosen answer's own loss, per token")


class KtoRecipe(_Preferences):
    """Learning from answers marked good or bad (Ethayarajh and others, 2024)."""

    method: Literal["kto"] = "kto"
    learning_rate: float = Field(1e-5, gt=0.0, le=1.0)
    beta: float = Field(0.1, gt=0.0, le=10.0)
    good_weight: float = Field(1.0, ge=0.0)
    bad_weight: float = Field(1.0, ge=0.0)


METHODS = "lora, qlora, full, distil-sequence, distil-logits, dpo, kto"


def method_of(recipe: Any) -> str:
    """The method a recipe names; one that names none is LoRA."""
    return str(recipe.get("method", "lora") if isinstance(recipe, dict) else getattr(recipe, "method", "lora"))


RecipeSpec = Annotated[
    Annotated[LoraRecipe, Tag("lora")]
    | Annotated[QloraRecipe, Tag("qlora")]
    | Annotated[FullRecipe, Tag("full")]
    | Annotated[DistilSequenceRecipe, Tag("distil-sequence")]
    | Annotated[DistilLogitsRecipe, Tag("distil-logits")]
    | Annotated[DpoRecipe, Tag("dpo")]
    | Annotated[KtoRecipe, Tag("kto")],
    Discriminator(method_of, custom_error_type="method", custom_error_message="method must be one of " + METHODS),
]
"""Any of the methods; in a task file the section `recipe`, whose key `method` says which."""

_recipe: TypeAdapter[RecipeSpec] = TypeAdapter(RecipeSpec)


def recipe_of(**fields: Any) -> RecipeSpec:
    """The recipe with these fields, as a task file would give them."""
    return _recipe.validate_python(fields)
