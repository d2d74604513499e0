"""Messages as they lie in their stream: whose they are, and what they say."""

from collections.abc import Callable

from libs.artifacts import ObjectStore
from libs.contracts.errors import InvalidInput
from libs.contracts.feedback import Feedback
from libs.contracts.ids import check_name
from libs.eventing.batches import RawMessage
from libs.eventing.cloudevents import attributes, has_attributes, payload
from libs.telemetry import valid_traceparent
from services.ingestion.domain.signals import Arrival, key_of, row_id_of
from services.ingestion.domain.wire import Words, plainly, spoken
from services.ingestion.store.tables import Owner

Objects = Callable[[str], ObjectStore]
"""The object store of a tenant."""

_MAX_ID = 300


def owner_of(subject: str) -> Owner:
    """Tenant and task of `<stream>.<tenant>.<task>`; InvalidInput when the subject is anything else."""
    tokens = subject.split(".")
    if len(tokens) != 3:
        raise InvalidInput(f"{subject!r} is not <stream>.<tenant>.<task>", field="subject")
    return check_name(tokens[1], "tenant"), check_name(tokens[2], "task")


def read_feedback(message: RawMessage, owner: Owner) -> Arrival:
    """One signal, with CloudEvents headers or as a plain JSON body; InvalidInput names the field.

    The id is the body's, else the CloudEvents id, else the stream sequence (then nothing is deduplicated).
    """
    event_id: str | None = None
    trace: str | None = None
    if message.headers:
        trace = next((value for name, value in message.headers.items() if name.lower() == "traceparent"), None)
        if has_attributes(message.headers):
            given = attributes(message.headers)
            if given.type != Feedback.event_type():
                raise InvalidInput(f"type {given.type!r} is not {Feedback.event_type()!r}", field="ce-type")
            event_id, trace = given.id, given.traceparent or trace
    words = plainly(message.data) or spoken(payload(Feedback, message.data))
    signal_id = words.id or event_id or f"{message.stream}:{message.stream_seq}"
    _check_names(words, signal_id)
    key = key_of(*owner, words.source, signal_id)
    # By place: by name msgspec looks for each name among all of them.
    return Arrival(
        owner[0],
        owner[1],
        words.source,
        signal_id,
        key,
        words,
        row_id_of(key),
        message.timestamp_ns / 1e9,
        message.stream_seq,
        trace if trace is not None and valid_traceparent(trace) else None,
    )


def _check_names(words: Words, signal_id: str) -> None:
    if len(signal_id) > _MAX_ID:
        raise InvalidInput(f"the id has {len(signal_id)} characters, more than {_MAX_ID}", field="id")
    for name, value in (("id", signal_id), ("source", words.source), ("request_id", words.request_id)):
        if value is not None and "\x00" in value:
            raise InvalidInput("a NUL character cannot be part of a key", field=name)
