"""Identifiers: of their own for causes, derived for effects, sha256 for content."""

import hashlib
import re
import secrets
import time
import uuid
from typing import Annotated

from pydantic import StringConstraints

from libs.contracts.errors import InvalidInput

NAMESPACE = uuid.UUID("6c1d8c1c-6a0f-5c1e-9a3e-7061776c0001")
_NAMESPACE_BYTES = NAMESPACE.bytes
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}$"

Digest = Annotated[str, StringConstraints(pattern=DIGEST_PATTERN)]
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]


def new_id(prefix: str) -> str:
    """A fresh id such as `turn-019f…`: prefix and the 32 hex digits of a UUID (RFC 9562, version 7).

    What is made later sorts later, to the millisecond: rows kept under such ids lie beside those of their time.
    """
    random = secrets.randbits(74)
    time_and_version = (time.time_ns() // 1_000_000) << 16 | 0x7000 | random >> 62
    return f"{prefix}-{time_and_version << 64 | 1 << 63 | random & ((1 << 62) - 1):032x}"


def moment_of(name: str) -> bytes | None:
    """The milliseconds since 1970 that a UUID of version 7 begins with, 6 bytes; None where a name ends in no such."""
    if len(name) < 32:
        return None
    try:
        value = bytes.fromhex(name[-36:].replace("-", "") if name[-13] == "-" else name[-32:])
    except ValueError:
        return None
    return value[:6] if len(value) == 16 and value[6] >> 4 == 7 and value[8] >> 6 == 2 else None


def derived_id(cause_id: str, output_name: str) -> str:
    """The id of the effect `output_name` of `cause_id`: a replayed handler emits the same id (RFC 9562, version 5)."""
    # As `uuid.uuid5`, without the object in between: there is one for every outcome of every signal.
    name = _NAMESPACE_BYTES + f"{cause_id}/{output_name}".encode()
    plain = hashlib.sha1(name, usedforsecurity=False).hexdigest()
    return f"{plain[:8]}-{plain[8:12]}-5{plain[13:16]}-{_VARIANT[plain[16]]}{plain[17:20]}-{plain[20:32]}"


def user_hash(tenant: str, user: str) -> str:
    """What stands for a user of a tenant wherever something is kept of him: 64 hex digits, which stand for themselves.

    Serving, ingestion and curation name him alike, so that one erasure finds him in all of them.
    """
    if re.fullmatch(r"[0-9a-f]{64}", user):
        return user
    return hashlib.sha256(f"{tenant}/{user}".encode("utf-8", "surrogatepass")).hexdigest()


def versioned(row_id: str, *terms: object) -> str:
    """The id of a record's row under terms of its own, such as consent: `<id>~<8 hex>`."""
    return f"{row_id}~{hashlib.sha256(repr(terms).encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def record_of(row_id: str) -> str:
    """The id of a row whatever the terms: rows of several are one record, and the last of them stands."""
    return row_id.partition("~")[0]


def digest_bytes(data: bytes) -> str:
    """`sha256:<64 hex>` of the bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def check_name(value: str, field: str) -> str:
    """Return `value` if it can stand in subjects, keys and object prefixes; InvalidInput otherwise."""
    if not re.match(NAME_PATTERN, value):
        raise InvalidInput(f"{value!r} must be 1 to 63 lower-case letters, digits or '-'", field=field)
    return value
