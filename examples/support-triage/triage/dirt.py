"""What makes a history dirty: personal data, broken encodings, edits that matter and edits that do not."""

import json
import random
import re
from collections.abc import Mapping

from triage.language import GREETINGS, KNOWN, NAMES, PRIORITIES, SCOPES, TEAMS, WORKAROUNDS
from triage.tickets import Ticket, answer

SURNAMES = ("Keller", "Novak", "Rossi", "Dupont", "Larsen", "Okafor", "Silva", "Meyer", "Kowalski", "Haddad")
ACCENTED = (
    "My colleague Jürgen saw it too", "The café on the ground floor has it as well", "Grüße aus München",
    "The señor at the desk confirmed it", "It says “déjà vu” on the page", "The price tag says 20 € net",
    "François can tell you more", "Our Malmö office knows it – really",  # noqa: RUF001
)  # fmt: skip
CONTROLS = ("\x00", "\x07", "\x0b", "\x1b", "\x7f", "\x08")


def luhn(digits: str) -> bool:
    """Whether the digits pass the check of payment cards (ISO/IEC 7812-1, annex B)."""
    total = 0
    for i, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if i % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def iban_valid(iban: str) -> bool:
    """Whether the account number passes its check (ISO 13616, modulo 97)."""
    moved = iban[4:] + iban[:4]
    return int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


def card_number(rng: random.Random) -> str:
    """A card number of 16 digits in groups of four, with a right check digit."""
    digits = "4" + "".join(str(rng.randint(0, 9)) for _ in range(14))
    digits += next(str(d) for d in range(10) if luhn(digits + str(d)))
    return " ".join(digits[i : i + 4] for i in range(0, 16, 4))


def iban(rng: random.Random) -> str:
    """A German account number with right check digits, without spaces."""
    account = "".join(str(rng.randint(0, 9)) for _ in range(18))
    check = 98 - int(account + "131400") % 97
    return f"DE{check:02d}{account}"


def personal(kind: str, rng: random.Random) -> tuple[str, str]:
    """A sentence that holds personal data of the kind, and the value itself."""
    first, last = rng.choice(NAMES), rng.choice(SURNAMES)
    if kind == "name":
        value = f"{first} {last}"
        return rng.choice((f"My name is {value}", f"Please ask for {value}")), value
    if kind == "email":
        value = f"{first}.{last}@example.{rng.choice(('com', 'org', 'net'))}".lower()
        return rng.choice((f"Write to {value}", f"My mail is {value}")), value
    if kind == "phone":
        value = f"+49 30 {rng.randint(100, 999)} {rng.randint(1000, 9999)}"
        return rng.choice((f"Call me at {value}", f"My phone is {value}")), value
    if kind == "card":
        value = card_number(rng)
        return rng.choice((f"My card is {value}", f"Card number {value}")), value
    value = iban(rng)
    return rng.choice((f"My account is {value}", f"IBAN {value}")), value


PERSONAL = ("name", "email", "phone", "card", "iban")


def mojibake(text: str) -> str:
    """The text as it looks when its UTF-8 bytes are read as Windows-1252."""
    return text.encode("utf-8").decode("cp1252")


def breakable(sentence: str) -> bool:
    """Whether reading its UTF-8 bytes as Windows-1252 is possible: five bytes have no meaning there."""
    try:
        mojibake(sentence)
    except UnicodeDecodeError:
        return False
    return True


def controls(text: str, rng: random.Random) -> str:
    """The text with control characters strewn in between its words."""
    words = text.split(" ")
    for at in sorted(rng.sample(range(1, len(words)), 2), reverse=True):
        words[at] = rng.choice(CONTROLS) + words[at]
    return " ".join(words)


def trivial(text: str, rng: random.Random) -> tuple[str, str]:
    """An edit that changes nothing of meaning, and its name: case, whitespace or greeting."""
    kind = rng.choice(("case", "whitespace", "greeting"))
    if kind == "case":
        codes = re.compile(r"\b[A-Z]{2}-\d{5}\b")
        kept = codes.findall(text)
        lowered = text.lower()
        for code in kept:
            lowered = lowered.replace(code.lower(), code)
        return lowered, kind
    if kind == "whitespace":
        return "  " + text.replace(". ", ".   ").replace(", ", ",\n", 1) + " \n", kind
    bare = next((text[len(g) + 1 :] for g in GREETINGS if text.startswith(g + " ")), text)
    old = next((g for g in GREETINGS if text.startswith(g + " ")), "")
    return f"{rng.choice([g for g in GREETINGS if g != old])} {bare}", kind


def _said(text: str, options: Mapping[str, tuple[str, ...]]) -> tuple[str, str] | None:
    """Which option the text states, and the words as they stand there."""
    for value, sentences in options.items():
        for line in sorted(sentences, key=len, reverse=True):
            stated = f"{line[0].upper()}{line[1:]}."
            if stated in text:
                return value, stated
    return None


def critical(ticket: Ticket, kind: str, rng: random.Random) -> tuple[str, str] | None:
    """Text and answer of a ticket that differs in one value that matters; None if the text does not state it.

    `asset` changes one digit, `negation` turns the workaround round, `level` changes who is affected: the last two
    change the priority where the table of priorities says so, and None is returned where it does not.
    """
    old = json.loads(ticket.answer)["priority"]
    if kind == "asset":
        at = rng.randint(3, 7)
        digit = str((int(ticket.asset[at]) + rng.randint(1, 8)) % 10)
        changed = ticket.asset[:at] + digit + ticket.asset[at + 1 :]
        if changed == ticket.asset:
            changed = ticket.asset[:at] + str((int(digit) + 1) % 10) + ticket.asset[at + 1 :]
        return ticket.text.replace(ticket.asset, changed), answer(ticket.category, old, ticket.product, changed)
    scope, workaround = _said(ticket.text, SCOPES), _said(ticket.text, WORKAROUNDS)
    if scope is None or workaround is None:
        return None
    if kind == "negation":
        value = "no" if workaround[0] == "yes" else "yes"
        text = ticket.text.replace(workaround[1], f"There is {'no' if value == 'no' else 'a manual'} workaround.")
        new = PRIORITIES[scope[0], value]
    else:
        value = rng.choice([s for s in SCOPES if s != scope[0]])
        line = rng.choice(SCOPES[value])
        text = ticket.text.replace(scope[1], f"{line[0].upper()}{line[1:]}.")
        new = PRIORITIES[value, workaround[0]]
    return None if new == old else (text, answer(ticket.category, new, ticket.product, ticket.asset))


def mislabelled(ticket: Ticket, rng: random.Random) -> tuple[str, str]:
    """A wrong category and the answer that follows from it."""
    wrong = rng.choice([c for c in KNOWN if c != ticket.category])
    right = json.loads(ticket.answer)
    return wrong, answer(wrong, right["priority"], ticket.product, ticket.asset, TEAMS[wrong])
