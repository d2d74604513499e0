"""Personal data of unmistakable form, redacted before a signal is stored; curation looks closer at what is left.

Pseudonyms are those that curation gives: the same value of a task is the same name in every segment and import.
"""

import ipaddress
import re
from bisect import bisect
from collections.abc import Callable, Collection
from operator import itemgetter

from libs.contracts.pseudonyms import Pseudonyms

KINDS = ("email", "iban", "card", "ip", "phone")
"""In order of search: what one kind has taken the next cannot take apart."""

_EMAIL = re.compile(r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}+@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}(?![\w-])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,3})?\b")
_CARD = re.compile(r"(?<![\w.-])(?:[2-6]\d{3}|1800)(?:[ -]?\d){8,15}(?![\w-])")
_IP = re.compile(
    r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)|(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])"
)
_PHONE = re.compile(
    r"(?<![\w.@+-])(?:\+\d{1,3}[ .-]?(?:\(0?\d{0,4}\)[ .-]?)?\d{1,5}(?:[ ./-]?\d{2,6}){1,4}"
    r"|\(\d{2,5}\)[ .-]?\d{3,4}(?:[ .-]?\d{2,5}){1,2}"
    r"|(?:1[ .-])?\d{3}[ .-]\d{3}[ .-]\d{4}"
    r"|00\d{1,3}[ .-]\d{1,5}(?:[ .-]?\d{2,6}){1,4}"
    r"|0\d{1,4}[ /-]\d{3,4}(?:[ -]?\d{2,5}){1,2})(?:\s?(?:x|ext\.?)\s?\d{1,5})?(?![\w-])"
)
_SHORTEST_IBAN, _LONGEST_IBAN = 15, 34


def redact(
    text: str, kinds: Collection[str], names: Pseudonyms, among: Collection[str] = KINDS
) -> tuple[str, list[tuple[str, str, str]]]:
    """The text with values of these kinds replaced, and what was: kind, value and pseudonym of each.

    `among`: the kinds that the text may hold, where that is known (`SIGNS`).
    """
    taken: list[tuple[int, int, str]] = []
    for kind in KINDS:
        if kind not in among:
            continue
        pattern, end_of = _RULES[kind]
        for match in pattern.finditer(text):
            start, end = match.start(), end_of(match[0])
            at = bisect(taken, start, key=itemgetter(0))
            before, after = taken[at - 1 : at], taken[at : at + 1]
            if end and all(start >= each[1] for each in before) and all(start + end <= each[0] for each in after):
                taken.insert(at, (start, start + end, kind))
    parts, found, at = list[str](), list[tuple[str, str, str]](), 0
    for start, end, kind in taken:
        if kind in kinds:
            value = text[start:end]
            found.append((kind, value, names.name(kind, value)))
            parts += [text[at:start], found[-1][2]]
            at = end
    return "".join(parts) + text[at:], found


def _whole(valid: Callable[[str], bool]) -> Callable[[str], int]:
    return lambda value: len(value) if valid(value) else 0


def _luhn(value: str) -> bool:
    digits = [int(each) for each in value if each.isdigit()]
    if not 13 <= len(digits) <= 19 or len(set(digits)) == 1:
        return False
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _iban_end(value: str) -> int:
    """An IBAN in groups may run into the word after it: the longest part that checks out is the number."""
    for stop in range(len(value), _SHORTEST_IBAN - 1, -1):
        plain = value[:stop].replace(" ", "")
        whole_words = stop == len(value) or not value[stop].isalnum()
        if whole_words and _SHORTEST_IBAN <= len(plain) <= _LONGEST_IBAN:
            number = int("".join(str(int(each, 36)) for each in plain[4:] + plain[:4]))
            if number % 97 == 1:
                return stop
    return 0


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    # "::" is punctuation in code and prose far more often than the address of nothing.
    return len(value) > 3


def _is_phone(value: str) -> bool:
    return 7 <= sum(map(str.isdigit, value)) <= 17


# The pattern, and how much of a match is the value; nothing when it does not check out.
_RULES: dict[str, tuple[re.Pattern[str], Callable[[str], int]]] = {
    "email": (_EMAIL, len),
    "iban": (_IBAN, _iban_end),
    "card": (_CARD, _whole(_luhn)),
    "ip": (_IP, _whole(_is_address)),
    "phone": (_PHONE, _whole(_is_phone)),
}


def _sign(pattern: re.Pattern[str]) -> str:
    """The pattern without what must stand around it, which RE2 cannot look at; its digits are ASCII."""
    return re.sub(r"\(\?<?[!=][^)]*\)|\\b", "", pattern.pattern)


SIGNS = {kind: "@" if kind == "email" else _sign(pattern) for kind, (pattern, _) in _RULES.items()}
"""Per kind a pattern of RE2 that is found in every text that holds a value, and in few others."""
