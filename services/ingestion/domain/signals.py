"""What a signal says once it is joined to the inference it is about."""

from dataclasses import dataclass
from datetime import datetime

from libs.contracts.answers import answer_digest, same_answer
from libs.contracts.feedback import Feedback, FeedbackKind
from libs.contracts.inference import Inference, Outcome, Role, Signal
from services.ingestion.domain.rows import Prompt, Row, hashed_user, prompt_of, stable_id


@dataclass(frozen=True, slots=True)
class Address:
    """Whose feedback it is and under which id it is counted once."""

    tenant: str
    task: str
    source: str
    id: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """One valid signal: address, payload, arrival (aware UTC), place in its stream and trace."""

    address: Address
    feedback: Feedback
    arrived_at: datetime
    stream_seq: int
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """What is kept of an inference so that feedback can be joined to it."""

    request_id: str
    prompt: Prompt
    output: str
    version: int
    role: Role
    generation: int
    unit: str
    segment: str | None
    answered_at: datetime


def answered(inference: Inference) -> Answered:
    """The joinable part of a logged inference, without NUL characters, which no text column of Postgres takes."""
    prompt = prompt_of(inference.messages)
    return Answered(
        request_id=inference.request_id,
        prompt=Prompt(_plain(prompt.system), _plain(prompt.history), _plain(prompt.input) or ""),
        output=inference.output.replace("\x00", ""),
        version=inference.version,
        role=inference.role,
        generation=inference.generation,
        unit=inference.unit,
        segment=inference.segment,
        answered_at=inference.created_at,
    )


def signal_of(feedback: Feedback, output: str | None) -> Signal:
    """good, bad or neutral, given the answer it is about (None: not known)."""
    given = output if output is not None else feedback.output
    match feedback.kind:
        case FeedbackKind.CORRECTION:
            same = given is not None and same_answer(feedback.correction or "", given)
            return Signal.GOOD if same else Signal.BAD
        case FeedbackKind.PREFERENCE:
            if given is not None and same_answer(feedback.chosen or "", given):
                return Signal.GOOD
            if given is not None and same_answer(feedback.rejected or "", given):
                return Signal.BAD
            return Signal.NEUTRAL
        case _:
            return {True: Signal.GOOD, False: Signal.BAD, None: Signal.NEUTRAL}[feedback.is_good]


def right_answer(feedback: Feedback, output: str | None) -> str | None:
    """The answer the signal vouches for: a correction, the preferred one, or the praised output."""
    if feedback.kind is FeedbackKind.CORRECTION:
        return feedback.correction
    if feedback.kind is FeedbackKind.PREFERENCE:
        return feedback.chosen
    return (output if output is not None else feedback.output) if feedback.is_good else None


def row_of(arrival: Arrival, about: Answered | None) -> Row:
    """The row of a signal; what serving logged of the inference stands above what the sender says of it."""
    feedback, address = arrival.feedback, arrival.address
    output = about.output if about is not None else feedback.output
    signal = signal_of(feedback, output)
    rejected = feedback.rejected if feedback.kind is FeedbackKind.PREFERENCE else None
    if rejected is None and signal is Signal.BAD:
        rejected = output
    return Row(
        row_id=stable_id("fb", address.tenant, address.task, address.source, address.id),
        kind=feedback.kind.value,
        source=address.source,
        system=about.prompt.system if about is not None else None,
        history=about.prompt.history if about is not None else None,
        input=(about.prompt.input if about is not None else None) or feedback.input or "",
        output=right_answer(feedback, output),
        rejected=rejected,
        category=feedback.category,
        group=feedback.group,
        user=hashed_user(address.tenant, feedback.user or (about.unit if about is not None else None)),
        segment=feedback.segment or (about.segment if about is not None else None),
        request_id=feedback.request_id,
        signal=signal.value,
        consent=feedback.consent,
        licence=feedback.licence,
        version=about.version if about is not None else None,
        created_at=feedback.created_at or arrival.arrived_at,
        arrived_at=arrival.arrived_at,
    )


def outcome_of(arrival: Arrival, about: Answered) -> Outcome:
    """How an inference turned out, without text."""
    feedback = arrival.feedback
    reference = right_answer(feedback, about.output)
    return Outcome(
        feedback_id=arrival.address.id,
        source=arrival.address.source,
        kind=feedback.kind.value,
        signal=signal_of(feedback, about.output),
        request_id=about.request_id,
        version=about.version,
        role=about.role,
        generation=about.generation,
        unit=about.unit,
        segment=feedback.segment or about.segment,
        category=feedback.category,
        reference_digest=answer_digest(reference) if reference is not None else None,
        answered_at=about.answered_at,
        created_at=feedback.created_at or arrival.arrived_at,
    )


def _plain(text: str | None) -> str | None:
    return text.replace("\x00", "") if text is not None else None
