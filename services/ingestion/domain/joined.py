"""A signal joined to its inference: the row it becomes, what is remembered of it, and the outcome it tells."""

from datetime import datetime

import msgspec

from libs.contracts.inference import Outcome, Role, Signal
from services.ingestion.domain.judgement import Judgement, Said
from services.ingestion.domain.rows import Row, hashed_user
from services.ingestion.domain.signals import Answered, Arrival, Claim


class OutcomeWords(msgspec.Struct, frozen=True, gc=False):
    """The fields of `Outcome`: how an inference turned out, without text."""

    feedback_id: str
    source: str
    kind: str
    signal: Signal
    request_id: str
    version: int
    role: Role
    generation: int
    unit: str
    segment: str | None
    category: str | None
    reference_digest: str | None
    answered_at: datetime
    created_at: datetime

    def event(self) -> Outcome:
        """The same as the contract's event."""
        return Outcome.model_construct(**{name: getattr(self, name) for name in self.__struct_fields__})


class Joined(msgspec.Struct, frozen=True, gc=False):
    """One signal with what it is about (None: serving logged no such inference), what it claims and how it weighs."""

    arrival: Arrival
    about: Answered | None
    claim: Claim
    weight: float = 1.0
    review: str | None = None

    @property
    def user(self) -> str | None:
        """The pseudonym of whoever sent it."""
        own = self.arrival.feedback.user
        return hashed_user(self.arrival.tenant, own or (self.about.unit if self.about is not None else None))


def said_of(joined: Joined, user: str | None) -> Said:
    """What is remembered of a signal, for the sake of others on the same response."""
    arrival, claim = joined.arrival, joined.claim
    feedback = arrival.feedback
    return Said(
        row_id=arrival.row_id,
        kind=feedback.kind,
        source=arrival.source,
        signal=claim.signal,
        at=arrival.at,
        weight=joined.weight,
        user=user,
        right=claim.right,
        rejected=claim.rejected,
        review=joined.review,
        named=bool(feedback.user),
    )


def row_of(joined: Joined, user: str | None, judgement: Judgement | None, revision: int | None) -> Row:
    """The row of a signal; what serving logged of the inference stands above what the sender says of it."""
    arrival, about, claim = joined.arrival, joined.about, joined.claim
    feedback, arrived_at = arrival.feedback, arrival.arrived_at
    prompt = about.prompt if about is not None else None
    return Row(
        row_id=arrival.row_id,
        kind=feedback.kind,
        source=arrival.source,
        system=prompt.system if prompt is not None else None,
        history=prompt.history if prompt is not None else None,
        input=(prompt.input if prompt is not None else None) or feedback.input or "",
        output=claim.right,
        rejected=claim.rejected,
        category=feedback.category,
        group=feedback.group,
        user=user,
        segment=feedback.segment or (about.segment if about is not None else None),
        request_id=feedback.request_id,
        signal=claim.signal,
        weight=joined.weight,
        consent=feedback.consent,
        licence=feedback.licence,
        version=about.version if about is not None else None,
        created_at=feedback.created_at or arrived_at,
        arrived_at=arrived_at,
        form=claim.form,
        label=claim.label,
        confidence=judgement.confidence if judgement is not None else None,
        review=judgement.review if judgement is not None else joined.review,
        revision=revision,
        judgement=judgement,
        messages=about.messages if about is not None else None,
        tools=about.tools if about is not None else None,
        subject=hashed_user(arrival.tenant, about.unit) if about is not None else None,
        comment=feedback.comment,
    )


def outcome_of(joined: Joined) -> OutcomeWords | None:
    """How the inference turned out; None when it is not known."""
    arrival, about = joined.arrival, joined.about
    if about is None:
        return None
    feedback = arrival.feedback
    return OutcomeWords(
        feedback_id=arrival.id,
        source=arrival.source,
        kind=feedback.kind,
        signal=joined.claim.signal,
        request_id=about.request_id,
        version=about.version,
        role=about.role,
        generation=about.generation,
        unit=about.unit,
        segment=feedback.segment or about.segment,
        category=feedback.category,
        reference_digest=joined.claim.reference_digest,
        answered_at=about.answered_at,
        created_at=feedback.created_at or arrival.arrived_at,
    )
