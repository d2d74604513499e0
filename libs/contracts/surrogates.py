"""Surrogates: values of the form of personal data that stand for it; where the form has room, none stands for two."""

import math
import re
from collections.abc import Callable, Mapping, Sequence

Draw = Callable[[str], bytes]
"""32 bytes that depend on a text, on the kind of value, and on a key."""
Form = Callable[[str, Draw], str]

_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"
_CODE = 16
_ROUNDS = 10


def code(drawn: bytes) -> str:
    """Sixteen characters of 78 bits, a digit first: so the guard sees another pseudonym as another value."""
    return str(drawn[0] % 10) + "".join(_LETTERS[each % 32] for each in drawn[1:_CODE])


def plain(kind: str, value: str) -> str:
    """The value without what is mere spelling: case, and but for addresses and secrets blanks and punctuation."""
    return value.casefold() if kind in ("email", "url", "credential") else re.sub(r"[\W_]", "", value).casefold()


def same_form(value: str, draw: Draw, *, letters: bool = True) -> str:
    """Digits for digits and (`letters`) Latin letters for letters, the rest as it was.

    A permutation of all values of that form: a Feistel network over mixed radices with a keyed round function (Black
    and Rogaway, 2002, "Ciphers with arbitrary finite domains"), so that no two values become one.
    """
    at = [place for place, sign in enumerate(value) if _radix(sign, letters=letters)]
    digits = [_number(value[place]) for place in at]
    radices = [_radix(value[place], letters=letters) for place in at]
    half = len(at) // 2
    left, right = _packed(digits[:half], radices[:half]), _packed(digits[half:], radices[half:])
    sizes = math.prod(radices[:half]), math.prod(radices[half:])
    form = ",".join(map(str, radices))
    for turn in range(_ROUNDS):
        # 128 bits over what is asked for: no value of the sum is likelier than another.
        if turn % 2:
            left = (left + _spread(draw, f"{form}/{turn}/{right}", sizes[0])) % sizes[0]
        else:
            right = (right + _spread(draw, f"{form}/{turn}/{left}", sizes[1])) % sizes[1]
    drawn = [*_unpacked(left, radices[:half]), *_unpacked(right, radices[half:])]
    signs = list(value)
    for place, number, radix in zip(at, drawn, radices, strict=True):
        sign = str(number) if radix == 10 else chr(ord("a") + number)
        signs[place] = sign.upper() if value[place].isupper() else sign
    return "".join(signs)


def _spread(draw: Draw, text: str, size: int) -> int:
    drawn = b"".join(draw(f"{text}/{part}") for part in range(1 + (size.bit_length() + 128) // 256))
    return int.from_bytes(drawn) % size


def _radix(sign: str, *, letters: bool) -> int:
    if sign.isdecimal():
        return 10
    return 26 if letters and sign.isascii() and sign.isalpha() else 0


def _number(sign: str) -> int:
    return int(sign) if sign.isdecimal() else ord(sign.lower()) - ord("a")


def _packed(numbers: Sequence[int], radices: Sequence[int]) -> int:
    whole = 0
    for number, radix in zip(numbers, radices, strict=True):
        whole = whole * radix + number
    return whole


def _unpacked(whole: int, radices: Sequence[int]) -> list[int]:
    numbers = []
    for radix in reversed(radices):
        whole, number = divmod(whole, radix)
        numbers.append(number)
    return numbers[::-1]


def _card(value: str, draw: Draw) -> str:
    """The issuer's first digit, and a last one that makes the check fail: the others tell cards apart."""
    drawn = value[0] + same_form(value[1:-1], draw) + value[-1]
    digits = [int(each) for each in drawn if each.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    right = -(sum(digits[-3::-2]) + sum(doubled)) % 10
    return drawn[:-1] + str((right + 1 + draw(plain("card", value))[0] % 9) % 10)


def _iban(value: str, draw: Draw) -> str:
    """The country, and check digits that no IBAN has."""
    return value[:2] + "00" + same_form(value[4:], draw)


def _ssn(value: str, draw: Draw) -> str:
    """Areas 900 to 999 were never given, and their groups 00 to 49 by no tax office either: fifty million numbers."""
    drawn = draw(plain("ssn", value))
    number = int.from_bytes(drawn) % 50_000_000
    digits = iter(f"9{number // 500_000:02}{number // 10_000 % 50:02}{number % 10_000:04}")
    return "".join(next(digits) if sign.isdecimal() else sign for sign in value)


def _ip(value: str, draw: Draw) -> str:
    """Of the ranges that nobody is given (RFC 1112, section 4; RFC 3849): 28 bits of version 4, 80 of version 6."""
    drawn = draw(plain("ip", value) if ":" not in value else value.casefold())
    if ":" in value:
        return "2001:db8:0:" + ":".join(drawn[at : at + 2].hex() for at in range(0, 10, 2))
    return f"{240 + drawn[0] % 15}.{drawn[1]}.{drawn[2]}.{drawn[3]}"


FORMS: Mapping[str, Form] = {
    "email": lambda value, draw: f"user-{code(draw(plain('email', value)))}@example.com",
    "url": lambda value, draw: f"https://{code(draw(plain('url', value)))}.example/",
    "card": _card,
    "iban": _iban,
    "ssn": _ssn,
    "ip": _ip,
    "phone": lambda value, draw: same_form(value, draw, letters=False),
    "licence": same_form,
    "postcode": same_form,
}
"""Kinds that have a form; the others are named by tokens in either style."""
