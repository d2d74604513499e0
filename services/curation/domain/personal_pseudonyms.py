"""Pseudonyms: a value has the same name wherever it stands in a task, and only who has the key can tell whose it is."""

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

TOKEN, SURROGATE = "token", "surrogate"
_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"


@dataclass(slots=True)
class Pseudonyms:
    """Names values under a key: the task's salt, or better a secret, since whoever has the key can try values.

    Style `token` writes `<EMAIL_4k2q7x>`; `surrogate` writes a value of the same form that can belong to nobody
    (`user-4k2q7x@example.com`, a card whose check digit is wrong), so that a model learns the form and no person.
    Redact once with surrogates: they look like what they stand for, so a second pass would rename them.
    """

    key: bytes
    style: str = TOKEN
    found: dict[str, int] = field(default_factory=dict)
    """Distinct values named, per kind."""
    _names: dict[tuple[str, str], str] = field(default_factory=dict)

    def name(self, kind: str, value: str) -> str:
        """The pseudonym of a value; spelling (blanks, punctuation, case) makes no other value."""
        plain = value.casefold() if kind in ("email", "url", "credential") else re.sub(r"[\W_]", "", value).casefold()
        known = self._names.get((kind, plain))
        if known is None or self.style == SURROGATE:
            digest = hmac.new(self.key, f"{kind}\x00{plain}".encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
            name = self._named(kind, value, digest)
            if known is None:
                self.found[kind] = self.found.get(kind, 0) + 1
                self._names[kind, plain] = name
            return name
        return known

    def _named(self, kind: str, value: str, digest: bytes) -> str:
        make = _SURROGATES.get(kind) if self.style == SURROGATE else None
        return make(value, digest) if make is not None else f"<{kind.upper()}_{_code(digest)}>"


def _code(digest: bytes) -> str:
    """Six characters, a digit first: so the guard sees another pseudonym as another value."""
    return str(digest[0] % 10) + "".join(_LETTERS[each % 32] for each in digest[1:6])


def _same_form(value: str, digest: bytes) -> str:
    """Digits for digits and letters for letters, punctuation as it was."""
    drawn = hashlib.shake_256(digest).digest(len(value))
    parts = []
    for sign, byte in zip(value, drawn, strict=True):
        if sign.isdigit():
            parts.append(str(byte % 10))
        elif sign.isalpha():
            letter = chr(ord("a") + byte % 26)
            parts.append(letter.upper() if sign.isupper() else letter)
        else:
            parts.append(sign)
    return "".join(parts)


def _card(value: str, digest: bytes) -> str:
    """The issuer's first digit, and a last one that makes the check fail."""
    drawn = value[0] + _same_form(value[1:], digest)
    digits = [int(each) for each in drawn if each.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    right = -(sum(digits[-3::-2]) + sum(doubled)) % 10
    return drawn[:-1] + str((right + 1 + digest[0] % 9) % 10)


def _iban(value: str, digest: bytes) -> str:
    """The country, and check digits that no IBAN has."""
    return value[:2] + "00" + _same_form(value[4:], digest)


def _ssn(value: str, digest: bytes) -> str:
    """Area 000 was never given."""
    return "000" + _same_form(value[3:], digest)


def _ip(value: str, digest: bytes) -> str:
    """An address of the ranges for documentation and benchmarks (RFC 3849, RFC 2544)."""
    if ":" in value:
        return f"2001:db8::{digest[:2].hex()}:{digest[2:4].hex()}"
    return f"198.{18 + digest[0] % 2}.{digest[1]}.{digest[2]}"


_SURROGATES: Mapping[str, Callable[[str, bytes], str]] = {
    "email": lambda _value, digest: f"user-{_code(digest)}@example.com",
    "url": lambda _value, digest: f"https://{_code(digest)}.example/",
    "card": _card,
    "iban": _iban,
    "ssn": _ssn,
    "ip": _ip,
    "phone": _same_form,
    "licence": _same_form,
    "postcode": _same_form,
}
