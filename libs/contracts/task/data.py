"""How raw rows become a dataset version."""

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from libs.contracts.task.curation import CurationSpec
from libs.contracts.task.section import Fraction, Probability, Section


class ColumnMap(Section):
    """Where the fields of an example stand in an imported row.

    Without `output` the answer is the column `output`, where a file has one, and else the category.

    A prompt or an answer may be text, a list of chat messages, or the JSON of one. With `label` (true or false) a row
    praises or blames its output; with `rejected` it prefers the output to that answer.
    """

    input: str = "input"
    output: str | None = None
    system: str | None = None
    rejected: str | None = None
    label: str | None = None
    category: str | None = None
    id: str | None = None
    group: str | None = None
    user: str | None = None
    created_at: str | None = None
    consent: str | None = None
    licence: str | None = None


class PersonalData(StrEnum):
    """What to do with one kind of personal data."""

    REDACT = "redact"
    DROP = "drop"
    KEEP = "keep"


class RedactionSpec(Section):
    """Policy per kind of personal data; a redacted value becomes a pseudonym, always the same.

    `licence` is a driving licence, passport or other labelled number, `credential` a password, key or token; `person`
    and `place` are found by presidio alone.
    """

    email: PersonalData = PersonalData.REDACT
    phone: PersonalData = PersonalData.REDACT
    card: PersonalData = PersonalData.REDACT
    iban: PersonalData = PersonalData.REDACT
    ip: PersonalData = PersonalData.REDACT
    ssn: PersonalData = PersonalData.REDACT
    licence: PersonalData = PersonalData.REDACT
    credential: PersonalData = PersonalData.REDACT
    birth_date: PersonalData = PersonalData.REDACT
    postcode: PersonalData = PersonalData.REDACT
    person: PersonalData = PersonalData.REDACT
    place: PersonalData = PersonalData.REDACT
    url: PersonalData = PersonalData.KEEP
    age: PersonalData = PersonalData.KEEP
    title: PersonalData = PersonalData.KEEP
    date: PersonalData = PersonalData.KEEP


class DuplicateSpec(Section):
    """Near duplicates: verified Jaccard over word sets at or above `threshold`; rows that differ in a number, an
    identifier, a date, a measure, a negation, an opposite or a name, short ones in any word that says something, are
    never merged while `guard` is on.

    With `calibrate` the threshold of merging is chosen by what planted copies of the rows show; what it does to them is
    in the report either way. `semantic` merges rows whose embeddings, fitted on the rows, have that cosine,
    and keeps such rows in one split.
    """

    near: bool = True
    threshold: Probability = 0.8
    guard: bool = True
    calibrate: bool = False
    semantic: Probability | None = None


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


class FeedbackSpec(Section):
    """How feedback is weighed before it trains.

    `weights` are per source, 0 to 1, those not named 1. A user or source beyond its signals per hour (0: no limit) is
    damped, and what it says then needs a person's look. A "correction" that is a long answer of our own models is
    their echo: `review` or `keep`.
    """

    weights: dict[str, Fraction] = Field(default_factory=dict)
    user_per_hour: int = Field(1000, ge=0)
    source_per_hour: int = Field(0, ge=0)
    own_output: Literal["review", "keep"] = "review"
    redact: bool = Field(True, description="replace the personal data that `redact` names before a signal is stored")


class DataSpec(Section):
    """How raw rows become a dataset version."""

    columns: ColumnMap = ColumnMap()
    redact: RedactionSpec = RedactionSpec()
    duplicates: DuplicateSpec = DuplicateSpec()
    split: SplitSpec = SplitSpec()
    curation: CurationSpec = CurationSpec()
    feedback: FeedbackSpec = FeedbackSpec()
    sources: tuple[str, ...] = Field((), description="feedback sources that may train; empty means all")
    max_rows: int = Field(1_000_000, ge=1)
    min_train_rows: int = Field(20, ge=1)
    engine: Literal["local", "daft", "ray"] = Field(
        "local",
        description="where texts are sketched for the search of duplicates: here, on Daft, or on Daft over the Ray of "
        "RAY_ADDRESS; rows are read and compared in curation's own process with each",
    )
    max_import_errors: Fraction = Field(0.2, description="an import with a greater share of bad rows is stopped")
    few_import_errors: int = Field(
        5, ge=0, description="so many bad rows stop no import whatever their share is, unless every row is bad"
    )
