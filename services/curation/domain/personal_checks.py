"""What must hold of a match beside its pattern: check digits, calendars, ranges."""

import ipaddress
import re
from datetime import date as calendar

_LONGEST_IBAN, _SHORTEST_IBAN = 34, 15
# Maestro alone has cards of twelve digits.
_SHORT_CARD = re.compile(r"5018|5020|5038|5893|6304|6759|676[123]")
# Amounts in groups of three zeros, what is written like a date, and social security numbers never given.
_NO_PHONE = re.compile(
    r"(?:.*[ .]000|(?:19|20)\d\d[ .-]\d\d[ .-]\d\d|\d\d[ .-]\d\d[ .-](?:19|20)\d\d)(?:[ .-]\d{2}){0,2}"
    r"|\d{3}-\d\d-\d{4}"
)
_LONGEST_PHONE, _LONGEST_LOCAL = 17, 13
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_OLDEST = 120


def anything(_value: str) -> bool:
    """Nothing more is asked."""
    return True


def luhn(value: str) -> bool:
    """Whether the check digit is right (ISO/IEC 7812-1) of twelve to nineteen digits that are not all the same."""
    digits = [int(each) for each in value if each.isdigit()]
    if not 12 <= len(digits) <= 19 or len(set(digits)) == 1:
        return False
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def card(value: str) -> bool:
    """As `luhn`, of a length that its issuer has."""
    digits = sum(map(str.isdigit, value))
    return luhn(value) and (digits > 12 or _SHORT_CARD.match(value) is not None)


def mod97(value: str) -> bool:
    """Whether an IBAN's check digits are right (ISO 13616)."""
    plain = value.replace(" ", "").upper()
    if not _SHORTEST_IBAN <= len(plain) <= _LONGEST_IBAN or not plain.isascii() or not plain.isalnum():
        return False
    return int("".join(str(int(each, 36)) for each in plain[4:] + plain[:4])) % 97 == 1


def iban_end(value: str) -> int | None:
    """An IBAN in groups may run into the word after it: the longest part that checks out is the number."""
    for stop in range(len(value), _SHORTEST_IBAN - 1, -1):
        if (stop == len(value) or not value[stop].isalnum()) and mod97(value[:stop]):
            return stop
    return None


def url_end(value: str) -> int | None:
    """Punctuation that ends the sentence, and a bracket that was opened before, are no part of an address."""
    end = len(value)
    while end and (value[end - 1] in ".,;:!?*" or (value[end - 1] == ")" and "(" not in value[:end])):
        end -= 1
    return end or None


def ssn(value: str) -> bool:
    """Whether the US Social Security Administration could have given the number."""
    digits = re.sub(r"\D", "", value)
    return digits[:3] not in ("000", "666") and digits[0] != "9" and digits[3:5] != "00" and digits[5:] != "0000"


def address(value: str) -> bool:
    """Whether an IPv4 or IPv6 address parses; `::` is punctuation far more often than the address of nothing."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return len(value) > 3


def phone(value: str) -> bool:
    """Seven to thirteen digits, seventeen with the country's, that are no date and no round amount."""
    digits = sum(map(str.isdigit, value.lower().partition("x")[0]))
    most = _LONGEST_PHONE if value[0] in "+(" or value.startswith("00") else _LONGEST_LOCAL
    return 7 <= digits <= most and not _NO_PHONE.fullmatch(value) and value.count("(") == value.count(")")


def date(value: str) -> bool:
    """Whether the calendar has the day, read either way round."""
    named = re.search(r"(?i)[a-z]{3,}", re.sub(r"(?i)(?<=\d)(?:st|nd|rd|th)| of ", " ", value))
    numbers = [int(each) for each in re.findall(r"\d+", value)][:3]
    if named is not None and named[0][:3].lower() in _MONTHS:
        numbers = [*numbers, _MONTHS.index(named[0][:3].lower()) + 1][:3]
    if len(numbers) != 3:
        return False
    year = next((each for each in numbers if 1900 <= each <= 2099), None)
    if year is None:
        return False
    numbers.remove(year)
    return any(_is_day(year, month, day) for month, day in (numbers, reversed(numbers)))


def age(value: str) -> bool:
    """Whether somebody may be as old."""
    return 0 < int(value) <= _OLDEST


def identifier(value: str) -> bool:
    """A number and not a word: five characters and three digits at least."""
    return sum(map(str.isdigit, value)) >= 3


def secret(value: str) -> bool:
    """A secret and not the next word of a sentence: a digit or a sign in it, or both cases."""
    return any(not each.isalpha() for each in value.rstrip(".!?)")) or not (value.islower() or value.istitle())


def _is_day(year: int, month: int, day: int) -> bool:
    try:
        calendar(year, month, day)
    except ValueError:
        return False
    return True
