"""Keep secrets out of whatever is about to be logged."""

import re
from collections.abc import Mapping

MASK = "***"

_ALWAYS = frozenset(
    {"password", "passwd", "passphrase", "secret", "credential", "credentials", "authorization", "cookie"}
)
# "key" and "token" also name harmless numbers (a stream position, a token count), so numbers pass under these.
_UNLESS_NUMBER = frozenset({"key", "apikey", "token", "nkey", "jwt", "seed"})
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

_IN_TEXT = (
    # user:password@ of a URL
    (re.compile(r"(?P<keep>[a-z][a-z0-9+.-]*://)[^/\s@:]*:[^/\s@]+@", re.IGNORECASE), r"\g<keep>" + MASK + "@"),
    (re.compile(r"(?P<keep>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), r"\g<keep>" + MASK),
    (
        re.compile(
            r"(?P<keep>\b[\w-]*(?:password|passwd|secret|token|api[_-]?key|access[_-]?key|secret[_-]?key)[\"']?\s*[=:]\s*)"
            r"(?:\"[^\"]*\"|'[^']*'|[^\s,;&\"')}]+)",
            re.IGNORECASE,
        ),
        r"\g<keep>" + MASK,
    ),
)


def mask_text(text: str) -> str:
    """Replace passwords in URLs, bearer values and `name=secret` pairs inside free text."""
    for pattern, replacement in _IN_TEXT:
        text = pattern.sub(replacement, text)
    return text


def mask_field(name: str, value: object) -> object:
    """The JSON-ready value to log for a field: masked when its name says secret, cleaned text otherwise."""
    words = {word.lower() for word in _WORD.findall(name)}
    if words & _ALWAYS and value is not None:
        return MASK
    if words & _UNLESS_NUMBER and value is not None and not isinstance(value, bool | int | float):
        return MASK
    return _clean(value)


def _clean(value: object) -> object:
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return mask_text(value)
        case Mapping():
            return {str(key): mask_field(str(key), item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_clean(item) for item in value]
        case bytes():
            return f"<{len(value)} bytes>"
        case _:
            return mask_text(str(value))
