"""Feedback as it comes off the stream, decoded fast; whatever is not plainly right is judged by the contract itself.

msgspec accepts here only what `libs.contracts.feedback.Feedback` accepts, with the same values; anything else goes to
the contract, which accepts it in its more lenient way or says which field is wrong.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from libs.contracts.feedback import MAX_TEXT, Feedback, FeedbackKind, praises

Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
Name = Annotated[str, msgspec.Meta(max_length=200)]


class Words(msgspec.Struct, frozen=True, gc=False):
    """The fields of `Feedback`; a struct, since a million of them must be made a minute."""

    kind: FeedbackKind
    id: Name | None = None
    source: Annotated[str, msgspec.Meta(max_length=100)] = "unknown"
    request_id: Name | None = None
    input: Text | None = None
    output: Text | None = None
    rating: Annotated[int, msgspec.Meta(ge=0, le=5)] | None = None
    scale: int = 1
    correction: Text | None = None
    chosen: Text | None = None
    rejected: Text | None = None
    comment: Text | None = None
    category: Name | None = None
    user: Name | None = None
    segment: Name | None = None
    group: Name | None = None
    consent: bool | None = None
    licence: Name | None = None
    created_at: datetime | None = None

    @property
    def is_good(self) -> bool | None:
        """True for praise, False for blame, None when the signal says neither."""
        return praises(self)


_STARS = (1, 2, 3, 4, 5)
_RATING = FeedbackKind.RATING
_DECODER = msgspec.json.Decoder(Words)
_NEEDED: dict[FeedbackKind, Callable[[Words], bool]] = {
    FeedbackKind.CORRECTION: lambda words: words.correction is not None,
    FeedbackKind.RATING: lambda words: words.rating is not None,
    FeedbackKind.PREFERENCE: lambda words: words.chosen is not None and words.rejected is not None,
    FeedbackKind.COMMENT: lambda words: words.comment is not None,
    FeedbackKind.ESCALATION: lambda _: True,
    FeedbackKind.ERROR: lambda _: True,
}


def plainly(data: bytes) -> Words | None:
    """The words of a body that is plainly right; None leaves it to the contract."""
    try:
        words = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not (words.request_id or words.input) or not _NEEDED[words.kind](words):
        return None
    if words.scale != 1 and words.scale != 5:
        return None
    if words.kind is _RATING and words.rating not in ((0, 1) if words.scale == 1 else _STARS):
        return None
    moment = words.created_at
    if moment is not None and moment.tzinfo is None:
        return msgspec.structs.replace(words, created_at=moment.replace(tzinfo=UTC))
    return words


def recalled(data: bytes) -> Words:
    """The words of a signal that was judged when it was stored, whatever the contract says by now."""
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return spoken(Feedback.model_validate_json(data))


def spoken(feedback: Feedback) -> Words:
    """The words of a signal that the contract has judged."""
    moment = feedback.created_at
    given = {name: getattr(feedback, name) for name in Words.__struct_fields__}
    if moment is not None and moment.tzinfo is None:
        given["created_at"] = moment.replace(tzinfo=UTC)
    return Words(**given)
