"""Pseudonyms: a value has one name wherever it stands in a task, and only who has the tenant's secret can tell whose.

Ingestion and curation name values alike, whichever of them meets one first.
"""

import hashlib
import hmac
from dataclasses import dataclass, field

from libs.contracts.surrogates import FORMS, code, plain

TOKEN, SURROGATE = "token", "surrogate"
_MOST_KNOWN = 100_000


def key_of(secret: bytes, tenant: str, purpose: str) -> bytes:
    """A tenant's key for one purpose: neither the secret nor another key can be told from it."""
    return hmac.new(secret, f"{tenant}\x00{purpose}".encode(), hashlib.sha256).digest()


def naming_key(secret: bytes, tenant: str, task: str) -> bytes:
    """The key under which the values of a task are named."""
    return key_of(secret, tenant, f"task/{task}")


@dataclass(slots=True)
class Pseudonyms:
    """Names values under a key (`naming_key`).

    Style `token` writes `<EMAIL_4k2q7xw9m3pt6vbn>`: 78 bits, so that among a thousand million values no two share one.
    `surrogate` writes a value of the same form (`libs.contracts.surrogates`), so that a model learns the form and no
    person. A surrogate looks like what it stands for: who redacts again must know it, or he would rename it.
    """

    key: bytes
    style: str = TOKEN
    _known: dict[tuple[str, str], str] = field(default_factory=dict)

    def name(self, kind: str, value: str) -> str:
        """The pseudonym of a value; spelling (blanks, punctuation, case) makes no other value."""
        known = self._known.get((kind, value))
        if known is None:
            known = self._named(kind, value)
            if len(self._known) < _MOST_KNOWN:
                self._known[kind, value] = known
        return known

    def _named(self, kind: str, value: str) -> str:
        def draw(text: str) -> bytes:
            return hmac.new(self.key, f"{kind}\x00{text}".encode("utf-8", "surrogatepass"), hashlib.sha256).digest()

        form = FORMS.get(kind) if self.style == SURROGATE else None
        return form(value, draw) if form is not None else f"<{kind.upper()}_{code(draw(plain(kind, value)))}>"
