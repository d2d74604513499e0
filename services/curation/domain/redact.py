"""Personal data in text: found by pattern and checksum, replaced by pseudonyms that are the same throughout a row."""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from libs.contracts.task import PersonalData, RedactionSpec

KINDS = ("email", "iban", "card", "ip", "phone")
"""In order of search: what one kind has taken the next cannot take apart."""

_EMAIL = re.compile(r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}(?![\w-])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,3})?\b")
_CARD = re.compile(r"(?<![\w-])(?:[2-6]\d{3}|1800)(?:[ -]?\d){8,15}(?![\w-])")
_IP = re.compile(
    r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)|(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])"
)
_PHONE = re.compile(
    r"(?<![\w.@+-])(?:\+\d{1,3}[ .-]?(?:\(0?\d{0,4}\)[ .-]?)?\d{1,5}(?:[ ./-]?\d{2,6}){1,4}"
    r"|\(\d{2,5}\)[ .-]?\d{3,4}(?:[ .-]?\d{2,5}){1,2}"
    r"|(?:1[ .-])?\d{3}[ .-]\d{3}[ .-]\d{4}"
    r"|00\d{1,3}[ .-]\d{1,5}(?:[ .-]?\d{2,6}){1,4}"
    r"|0\d{1,4}[ /-]\d{3,4}(?:[ -]?\d{2,5}){1,2}"
    r"|\(\d{2,4}\)[ .-]?\d{3}[ .-]\d{3}|\d{2,5}(?:[ .-]\d{2,4}){2,4})(?:\s?(?:x|ext\.?)\s?\d{1,5})?(?![\w-])"
)
# Dates, and amounts in groups of three zeros.
_NO_PHONE = re.compile(
    r"(?:(?:19|20)\d{2}[ .-]\d{2}[ .-]\d{2}|\d{2}[ .-]\d{2}[ .-](?:19|20)\d{2}|.*[ .]000)(?:[ .-]\d{2}){0,2}"
)
# Maestro alone has cards of twelve digits.
_SHORT_CARD = re.compile(r"5018|5020|5038|6304")
_WORTH_A_LOOK = re.compile(r"@|\d\D*\d\D*\d\D*\d|::|[0-9A-Fa-f]:[0-9A-Fa-f]")
_LONGEST_IBAN, _SHORTEST_IBAN = 34, 15


@dataclass(slots=True)
class Pseudonyms:
    """The pseudonyms of one row: the same value is the same name in its input, its history and its answer."""

    names: dict[tuple[str, str], str] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    """Distinct values per kind."""

    def name(self, kind: str, value: str) -> str:
        """The pseudonym of a value, `<EMAIL_1>` for the first of its kind."""
        key = kind, re.sub(r"[\s.()/-]", "", value).casefold() if kind != "email" else value.casefold()
        if key not in self.names:
            self.found[kind] = self.found.get(kind, 0) + 1
            self.names[key] = f"<{kind.upper()}_{self.found[kind]}>"
        return self.names[key]


def find(text: str, kinds: tuple[str, ...] = KINDS) -> list[tuple[str, int, int]]:
    """Spans (kind, start, end) of personal data, by start, never overlapping."""
    if not _WORTH_A_LOOK.search(text):
        return []
    taken: list[tuple[str, int, int]] = []
    for kind in KINDS:
        pattern, valid = _RULES[kind]
        for match in pattern.finditer(text):
            start, end = match.span()
            span = _longest_valid(text, start, end, valid) if kind == "iban" else (end if valid(match[0]) else None)
            if span is not None and not any(start < other[2] and other[1] < span for other in taken):
                taken.append((kind, start, span))
    return sorted((each for each in taken if each[0] in kinds), key=lambda each: each[1])


def redact(text: str, policy: RedactionSpec, pseudonyms: Pseudonyms) -> str:
    """The text with what the policy redacts replaced by the row's pseudonyms; kept kinds stay."""
    wanted = tuple(kind for kind in KINDS if getattr(policy, kind) is not PersonalData.KEEP)
    parts, at = [], 0
    for kind, start, end in find(text, wanted):
        parts += [text[at:start], pseudonyms.name(kind, text[start:end])]
        at = end
    return "".join(parts) + text[at:]


def dropped(policy: RedactionSpec, pseudonyms: Pseudonyms) -> str | None:
    """The kind for which the policy drops the whole row, if the row holds one."""
    return next((kind for kind in sorted(pseudonyms.found) if getattr(policy, kind) is PersonalData.DROP), None)


def luhn(value: str) -> bool:
    """Whether a card number's check digit is right (ISO/IEC 7812-1) and its length is one that exists."""
    digits = [int(each) for each in value if each.isdigit()]
    shortest = 12 if _SHORT_CARD.match(value) else 13
    if not shortest <= len(digits) <= 19 or len(set(digits)) == 1:
        return False
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def mod97(value: str) -> bool:
    """Whether an IBAN's check digits are right (ISO 13616)."""
    plain = value.replace(" ", "")
    if not _SHORTEST_IBAN <= len(plain) <= _LONGEST_IBAN:
        return False
    return int("".join(str(int(each, 36)) for each in plain[4:] + plain[:4])) % 97 == 1


def _longest_valid(text: str, start: int, end: int, valid: Callable[[str], bool]) -> int | None:
    """An IBAN in groups may run into the word after it: the longest part that checks out is the number."""
    for stop in range(end, start + _SHORTEST_IBAN - 1, -1):
        if (stop == len(text) or not text[stop].isalnum()) and valid(text[start:stop]):
            return stop
    return None


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    # "::" is punctuation in code and prose far more often than the address of nothing.
    return len(value) > 3


def _is_phone(value: str) -> bool:
    digits = sum(map(str.isdigit, value))
    return 7 <= digits <= 17 and not _NO_PHONE.fullmatch(value)


_RULES: Mapping[str, tuple[re.Pattern[str], Callable[[str], bool]]] = {
    "email": (_EMAIL, lambda _: True),
    "iban": (_IBAN, mod97),
    "card": (_CARD, luhn),
    "ip": (_IP, _is_address),
    "phone": (_PHONE, _is_phone),
}
