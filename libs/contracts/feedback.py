"""What upstream systems publish to `feedback.<tenant>.<task>`: one signal about one inference."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Protocol, Self

from pydantic import Field, model_validator

from libs.contracts.envelope import Event

OWN_OUTPUT, FLOOD = "own output: ", "flood: "
"""How the reason begins to review a signal for its own sake, whatever others say on the response."""
MAX_TEXT = 65_536


class FeedbackKind(StrEnum):
    """What the signal says."""

    RATING = "rating"
    CORRECTION = "correction"
    PREFERENCE = "preference"
    ESCALATION = "escalation"
    ERROR = "error"
    COMMENT = "comment"


class Feedback(Event):
    """One production signal about one inference.

    Counted once per (tenant, task, source, id). Without an `id` the stream sequence serves and no
    deduplication is promised. `request_id` names the logged inference; without it `input` must be given
    wherever the signal needs one.
    """

    subject: ClassVar[str] = "feedback.{tenant}.{task}"

    kind: FeedbackKind
    id: str | None = Field(None, max_length=200)
    source: str = Field("unknown", max_length=100)
    request_id: str | None = Field(None, max_length=200)
    input: str | None = Field(None, max_length=MAX_TEXT)
    output: str | None = Field(None, max_length=MAX_TEXT)
    rating: int | None = Field(None, ge=0, le=5, description="0 or 1 (thumb), or 1 to 5 (stars) with scale=5")
    scale: int = Field(1, description="1 for a thumb, 5 for stars")
    correction: str | None = Field(None, max_length=MAX_TEXT)
    chosen: str | None = Field(None, max_length=MAX_TEXT)
    rejected: str | None = Field(None, max_length=MAX_TEXT)
    comment: str | None = Field(None, max_length=MAX_TEXT)
    category: str | None = Field(None, max_length=200)
    user: str | None = Field(None, max_length=200)
    segment: str | None = Field(None, max_length=200)
    group: str | None = Field(None, max_length=200, description="rows of one group stay on one side of the split")
    consent: bool | None = None
    licence: str | None = Field(None, max_length=200)
    created_at: datetime | None = None

    @model_validator(mode="after")
    def _signal_is_complete(self) -> Self:
        needed = {
            FeedbackKind.RATING: ("rating",),
            FeedbackKind.CORRECTION: ("correction",),
            FeedbackKind.PREFERENCE: ("chosen", "rejected"),
            FeedbackKind.COMMENT: ("comment",),
        }.get(self.kind, ())
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise ValueError(f"kind {self.kind.value!r} needs the field {missing[0]!r}")
        if self.scale not in (1, 5):
            raise ValueError("scale must be 1 (thumb) or 5 (stars)")
        if self.kind is FeedbackKind.RATING and self.scale == 1 and self.rating not in (0, 1):
            raise ValueError("rating must be 0 or 1; for stars set scale to 5")
        if self.kind is FeedbackKind.RATING and self.scale == 5 and self.rating == 0:
            raise ValueError("rating must be 1 to 5 where scale is 5; for a thumb down set scale to 1")
        if not self.request_id and not self.input:
            raise ValueError("either 'request_id' or 'input' must say which inference this is about")
        return self

    @property
    def is_good(self) -> bool | None:
        """True for praise, False for blame, None when the signal says neither."""
        return praises(self)


class Said(Protocol):
    """The fields by which a signal praises or blames."""

    @property
    def kind(self) -> FeedbackKind:
        """What the signal says."""

    @property
    def rating(self) -> int | None:
        """0 or 1, or 1 to 5 where `scale` is 5."""

    @property
    def scale(self) -> int:
        """1 or 5."""

    @property
    def correction(self) -> str | None:
        """The right answer."""

    @property
    def output(self) -> str | None:
        """The answer given."""


def praises(said: Said) -> bool | None:
    """True for praise, False for blame, None when the signal says neither."""
    if said.kind is FeedbackKind.RATING and said.rating is not None:
        if said.scale == 1:
            return said.rating == 1
        return True if said.rating >= 4 else (False if said.rating <= 2 else None)
    if said.kind is FeedbackKind.CORRECTION:
        return said.correction == said.output if said.output is not None else False
    if said.kind in (FeedbackKind.ESCALATION, FeedbackKind.ERROR):
        return False
    return None
