"""Personal data in text: found by pattern, checksum and label, and redacted, dropped or kept by policy."""

from bisect import bisect, insort
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from libs.contracts.pseudonyms import Pseudonyms
from services.curation.domain.personal_patterns import PATTERNS, Pattern

KINDS = (
    "credential", "email", "url", "iban", "card", "ssn", "licence", "ip", "birth_date", "postcode", "phone", "age",
    "title", "date",
)  # fmt: skip
"""Every kind patterns find. `licence` is a driving licence, passport or other labelled number, `credential` a password
in a URL, an API key, a token or a private key."""

NAMES = ("person", "place")
"""Kinds that no pattern finds, only a recogniser from outside."""

REDACT, DROP, KEEP = "redact", "drop", "keep"
DEFAULTS: Mapping[str, str] = dict.fromkeys(KINDS, REDACT) | dict.fromkeys(("url", "age", "title", "date"), KEEP)
"""What is done with a kind of which the policy says nothing."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Personal data in a text: characters `start` to `end`."""

    start: int
    end: int
    kind: str


class Finder(Protocol):
    """Finds personal data in many texts: patterns, or a recogniser from outside."""

    def find(self, texts: Sequence[str], kinds: Collection[str]) -> list[list[Span]]:
        """The spans of each text, ascending, none over another."""
        ...


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text after the policy: what was found in it, and the kind for which the whole row is dropped, if any."""

    text: str
    spans: tuple[Span, ...]
    drop: str | None


def find(text: str, kinds: Collection[str] = KINDS, patterns: Iterable[Pattern] = PATTERNS) -> list[Span]:
    """Spans of personal data by place, never overlapping; what is one kind is never told as another.

    `patterns` may leave out those that are known not to match.
    """
    taken: list[Span] = []
    for pattern in patterns:
        for match in pattern.expression.finditer(text):
            start, end = match.span("value") if "value" in pattern.expression.groupindex else match.span()
            if pattern.trim is not None:
                length = pattern.trim(text[start:end])
                if length is None:
                    continue
                end = start + length
            if pattern.valid(text[start:end]) and _is_free(start, end, taken):
                insort(taken, Span(start, end, pattern.kind))
    return [each for each in taken if each.kind in kinds]


def _is_free(start: int, end: int, taken: Sequence[Span]) -> bool:
    """Whether none of `taken`, ascending and none over another, lies over these characters."""
    at = bisect(taken, start, key=lambda each: each.start)
    return (at == 0 or taken[at - 1].end <= start) and (at == len(taken) or end <= taken[at].start)


def redact(
    text: str, actions: Mapping[str, str], pseudonyms: Pseudonyms, spans: Sequence[Span] | None = None
) -> Redacted:
    """The text with a pseudonym for every value that `actions` (kind -> redact, drop, keep) does not keep.

    A kind not named is treated as `DEFAULTS` says. `spans` are what a finder found; without them the patterns look.
    """
    found = find(text) if spans is None else list(spans)
    wanted = [each for each in found if actions.get(each.kind, DEFAULTS.get(each.kind, REDACT)) != KEEP]
    parts, at = [], 0
    for span in wanted:
        parts += [text[at : span.start], pseudonyms.name(span.kind, text[span.start : span.end])]
        at = span.end
    dropped = sorted({each.kind for each in wanted if actions.get(each.kind) == DROP})
    return Redacted("".join(parts) + text[at:], tuple(found), dropped[0] if dropped else None)
