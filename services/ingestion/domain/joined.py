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
    # By place: by name msgspec looks for each name among all of them.
    return Said(
        arrival.row_id,
        feedback.kind,
        arrival.source,
        claim.signal,
        arrival.at,
        joined.weight,
        user,
        claim.right,
        claim.rejected,
        joined.review,
        bool(feedback.user),
    )


def row_of(joined: Joined, user: str | None, judgement: Judgement | None, revision: int | None) -> Row:
    """The row of a signal; what serving logged of the inference stands above what the sender says of it."""
    arrival, about, claim = joined.arrival, joined.about, joined.claim
    feedback, arrived_at = arrival.feedback, arrival.arrived_at
    prompt = about.prompt if about is not None else None
    # By place: by name msgspec looks for each name among all of them.
    return Row(
        arrival.row_id,
        feedback.kind,
        arrival.source,
        (prompt.input if prompt is not None else None) or feedback.input or "",
        claim.right,
        claim.signal,
        feedback.created_at or arrived_at,
        arrived_at,
        prompt.system if prompt is not None else None,
        prompt.history if prompt is not None else None,
        claim.rejected,
        feedback.category,
        feedback.group,
        user,
        feedback.segment or (about.segment if about is not None else None),
        feedback.request_id,
        joined.weight,
        feedback.consent,
        feedback.licence,
        about.version if about is not None else None,
        about.messages if about is not None else None,
        about.tools if about is not None else None,
        None,  # rejected_messages: a signal has none
        claim.form,
        claim.label,
        judgement.confidence if judgement is not None else None,
        judgement.review if judgement is not None else joined.review,
        revision,
        judgement,
        None,  # personal: what redaction fills in
        hashed_user(arrival.tenant, about.unit) if about is not None else None,
        feedback.comment,
    )


def outcome_of(joined: Joined) -> OutcomeWords | None:
    """How the inference turned out; None when it is not known."""
    arrival, about = joined.arrival, joined.about
    if about is None:
        return None
    feedback = arrival.feedback
    # By place: by name msgspec looks for each name among all of them.
    return OutcomeWords(
        arrival.id,
        arrival.source,
        feedback.kind,
        joined.claim.signal,
        about.request_id,
        about.version,
        about.role,
        about.generation,
        about.unit,
        feedback.segment or about.segment,
        feedback.category,
        joined.claim.reference_digest,
        about.answered_at,
        feedback.created_at or arrival.arrived_at,
    )
