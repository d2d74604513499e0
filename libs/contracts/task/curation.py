"""The policy of curation: what each step of a dataset build may change, hold back or ask about."""

from datetime import datetime
from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from libs.contracts.ids import Digest
from libs.contracts.task.section import Fraction, Section


class Act(StrEnum):
    """What to do with a row that looks wrong.

    keep: nothing. review: it stays in and is queued for review. hold: it stays out until somebody approves it.
    drop: it stays out.
    """

    KEEP = "keep"
    REVIEW = "review"
    HOLD = "hold"
    DROP = "drop"


class RepairSpec(Section):
    """What is repaired before anything is judged: bytes read wrongly, blanks and controls, the order of roles, and
    JSON answers wrapped in a code fence.
    """

    encoding: bool = True
    whitespace: bool = True
    roles: bool = True
    json_answers: bool = True


class StyleSpec(Section):
    """Style of answers, as regular expressions: what `remove` finds is cut out, what `forbid` finds costs the row."""

    remove: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()


class QualitySpec(Section):
    """Lengths in characters, and heuristics on answers that refuse, insult or repeat themselves."""

    min_input: int = Field(1, ge=0)
    max_input: int = Field(200_000, ge=1)
    min_answer: int = Field(1, ge=0)
    max_answer: int = Field(200_000, ge=1)
    refusals: Act = Act.REVIEW
    toxicity: Act = Act.HOLD
    repetition: Act = Act.HOLD


class JudgeSpec(Section):
    """A language model that scores answers from 1 to 5, behind any OpenAI-compatible endpoint."""

    url: str = Field(pattern=r"^https?://", description="base URL of the endpoint, e.g. http://host:8000/v1")
    model: str = Field(min_length=1)
    rubric: str = "How correct, complete and well written is the answer?"
    at_least: int = Field(3, ge=1, le=5)
    act: Act = Act.HOLD
    max_rows: int = Field(2_000, ge=1, description="most rows judged for one version; the others pass unjudged")


class LabelSpec(Section):
    """Suspected label errors: rows whose category equal rows, or a cross-validated model, disagree with."""

    mislabels: Act = Act.REVIEW
    folds: int = Field(5, ge=2, le=20)
    max_share: Fraction = Field(0.05, description="at most this share of rows is suspected, the clearest first")


class TaxonomySpec(Section):
    """Categories: those declared (none: any), other names for them, and what becomes of a row of another category."""

    categories: tuple[str, ...] = ()
    aliases: dict[str, str] = Field(default_factory=dict, description="a category found -> the declared one")
    unknown: Act = Act.HOLD

    @model_validator(mode="after")
    def _aliases_lead_home(self) -> Self:
        lost = [name for name in self.aliases.values() if self.categories and name not in self.categories]
        if lost:
            raise ValueError(f"aliases lead to {lost[0]!r}, which is not among the categories")
        return self


class BalanceSpec(Section):
    """Training rows per category: at most `cap`; `temperature` below 1 flattens (n rows count as n**temperature);
    a category under `floor` is reported as lacking, never dropped.
    """

    cap: int | None = Field(None, ge=1)
    floor: int = Field(0, ge=0)
    temperature: float = Field(1.0, gt=0.0, le=1.0)


class EmbeddingsSpec(Section):
    """An OpenAI-compatible embeddings endpoint: `url` ends before `/embeddings`; texts leave the machine for it."""

    url: str = Field(pattern=r"^https?://")
    model: str = Field(min_length=1)


class LeakageSpec(Section):
    """Evaluation suites that training must not know, beside the task's own and those of `evaluation.suites`: trees
    with `items.jsonl`, by digest.

    Rows that reword an item of theirs are withheld. `rephrased` says what to do with rows that reword one of the own
    suite: nothing, count them in the report, or withhold them too. With `embeddings` a model judges the likely pairs.
    """

    suites: tuple[Digest, ...] = ()
    rephrased: Literal["ignore", "report", "withhold"] = "report"
    embeddings: EmbeddingsSpec | None = None


class SynthesisSpec(Section):
    """A teacher behind any OpenAI-compatible endpoint; what it writes enters training only when approved in review."""

    url: str = Field(pattern=r"^https?://")
    model: str = Field(min_length=1)
    temperature: float = Field(0.8, ge=0.0, le=2.0)
    evolve: Fraction = Field(0.5, description="share of calls that make one seed harder instead of inventing anew")
    per_call: int = Field(4, ge=1, le=20, description="examples asked for in one call")
    max_tokens: int = Field(1_024, ge=16, le=16_384)
    concurrency: int = Field(4, ge=1, le=64)
    structured: bool = Field(
        False, description="the endpoint holds replies to a JSON schema (`response_format`), as a small teacher needs"
    )
    max_characters: int | None = Field(
        None, ge=16, le=100_000, description="longest question of a structured reply; without it the endpoint decides"
    )


class CurationSpec(Section):
    """Every step of a build with its settings; the steps and their rules are listed by `pawl data rules`."""

    repair: RepairSpec = RepairSpec()
    style: StyleSpec = StyleSpec()
    quality: QualitySpec = QualitySpec()
    judge: JudgeSpec | None = None
    labels: LabelSpec = LabelSpec()
    taxonomy: TaxonomySpec = TaxonomySpec()
    balance: BalanceSpec = BalanceSpec()
    leakage: LeakageSpec = LeakageSpec()
    synthesis: SynthesisSpec | None = None
    personal: Literal["patterns", "presidio"] = Field(
        "patterns", description="who finds personal data; presidio adds names and places to what the patterns find"
    )
    pseudonyms: Literal["token", "surrogate"] = Field(
        "token",
        description="`<EMAIL_4k2q7xw9m3pt6vbn>`, or another value of the same form; each always the same",
    )
    contradictions: Literal[Act.KEEP, Act.REVIEW] = Act.REVIEW
    min_confidence: Fraction = Field(
        0.0, description="how far the signals on a response must agree for it to train; one full voice alone has 0.75"
    )
    licences: tuple[str, ...] = Field((), description="licences that may train; empty means all, and rows without one")
    without: tuple[str, ...] = Field(
        (),
        description="rules that do not apply, by name; label_conflict_tie where a question may have many good answers",
    )
    holdout_after: datetime | None = Field(
        None,
        description="groups that begin at or after this time are test, but for those that an earlier version placed; "
        "what comes at or after it never trains",
    )
    validation_sources: tuple[str, ...] = Field(
        (), description="groups that a row of these sources begins are validation, and none of their rows trains"
    )
    customers: bool = Field(False, description="all rows of one user stand on one side of the split")

    @model_validator(mode="after")
    def _time_has_a_zone(self) -> Self:
        if self.holdout_after is not None and self.holdout_after.tzinfo is None:
            raise ValueError("holdout_after needs a time zone, e.g. 2026-01-31T00:00:00Z")
        return self
