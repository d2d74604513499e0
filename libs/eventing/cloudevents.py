"""CloudEvents 1.0 over NATS headers, binary mode: attributes in `ce-*`, JSON of the payload as data."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

from pydantic import ValidationError

from libs.contracts.envelope import E, Envelope
from libs.contracts.errors import InvalidInput

CONTENT_TYPE = "application/json"
STRUCTURED = "application/cloudevents"
MAX_PAYLOAD = 900_000
"""Bytes of data; the broker takes 1 MiB with headers."""

# Printable ASCII but space, double quote and percent goes as it is (CloudEvents HTTP binding 1.0, section 3.1.3.2).
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
_AS_IT_IS = re.compile(f"[{re.escape(_PLAIN)}]*")


@dataclass(frozen=True, slots=True)
class Attributes:
    """CloudEvents attributes of one message; `time` is aware UTC."""

    id: str
    source: str
    type: str
    time: datetime
    traceparent: str | None = None
    turn_id: str | None = None
    cause_id: str | None = None


def lower_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Headers by lower-case name: NATS keeps the writer's case, CloudEvents names do not depend on it."""
    return {name.lower(): value for name, value in (headers or {}).items()}


def has_attributes(headers: Mapping[str, str] | None) -> bool:
    """Whether the message is a CloudEvent at all; a plain JSON body is not."""
    return any(name.lower() == "ce-specversion" or name.lower() == "ce-id" for name in headers or {})


def attributes(headers: Mapping[str, str] | None) -> Attributes:
    """Read the attributes; InvalidInput names the header that is missing or wrong."""
    given = lower_headers(headers)
    if given.get("content-type", "").startswith(STRUCTURED):
        raise InvalidInput("structured CloudEvents are not read; send binary mode (ce-* headers)", field="content-type")
    version = _required(given, "ce-specversion")
    if version != "1.0":
        raise InvalidInput(f"CloudEvents {version!r} is not 1.0", field="ce-specversion")
    return Attributes(
        id=_required(given, "ce-id"),
        source=_required(given, "ce-source"),
        type=_required(given, "ce-type"),
        time=_time(given.get("ce-time")),
        traceparent=given.get("traceparent") or given.get("ce-traceparent"),
        turn_id=_optional(given, "ce-turnid"),
        cause_id=_optional(given, "ce-causeid"),
    )


def decode(model: type[E], subject: str, data: bytes, headers: Mapping[str, str] | None) -> Envelope[E]:
    """The envelope of one message; InvalidInput names the header or the payload's field."""
    given = attributes(headers)
    if given.type != model.event_type():
        raise InvalidInput(f"type {given.type!r} is not {model.event_type()!r}", field="ce-type")
    return Envelope(
        id=given.id,
        subject=subject,
        source=given.source,
        time=given.time,
        data=payload(model, data),
        traceparent=given.traceparent,
        turn_id=given.turn_id,
        cause_id=given.cause_id,
    )


def payload(model: type[E], data: bytes) -> E:
    """Parse JSON data; InvalidInput names the first field that is wrong."""
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "data"
        raise InvalidInput(f"{first['msg']} ({model.__name__})", field=place) from error


def encode(envelope: Envelope[Any]) -> tuple[str, bytes, dict[str, str]]:
    """Subject, payload and headers of an envelope; `Nats-Msg-Id` is its id. InvalidInput when it is too large."""
    data = envelope.data.model_dump_json().encode()
    if len(data) > MAX_PAYLOAD:
        raise InvalidInput(f"{len(data)} bytes of {envelope.type} exceed {MAX_PAYLOAD}", field="data")
    headers = {
        "Nats-Msg-Id": envelope.id,
        "content-type": CONTENT_TYPE,
        "ce-specversion": "1.0",
        "ce-id": _quoted(envelope.id),
        "ce-source": _quoted(envelope.source),
        "ce-type": _quoted(envelope.type),
        "ce-time": envelope.time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
    }
    if envelope.traceparent:
        headers["traceparent"] = envelope.traceparent
    if envelope.turn_id:
        headers["ce-turnid"] = _quoted(envelope.turn_id)
    if envelope.cause_id:
        headers["ce-causeid"] = _quoted(envelope.cause_id)
    return envelope.subject, data, headers


def _quoted(value: str) -> str:
    return value if _AS_IT_IS.fullmatch(value) else quote(value, _PLAIN)


def _required(given: Mapping[str, str], name: str) -> str:
    value = given.get(name, "")
    if not value:
        raise InvalidInput("the CloudEvents header is missing", field=name)
    return unquote(value)


def _optional(given: Mapping[str, str], name: str) -> str | None:
    value = given.get(name)
    return unquote(value) if value else None


def _time(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(unquote(text))
    except ValueError as error:
        raise InvalidInput(f"{text!r} is not an RFC 3339 time", field="ce-time") from error
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
