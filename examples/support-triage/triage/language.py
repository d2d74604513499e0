"""The phrase grammar of support tickets: forms, their slots, and the sentences every ticket shares."""

import random
import re
from dataclasses import dataclass

from triage.topics import MODULES

KNOWN = ("access", "network", "hardware", "billing", "data", "security", "feature", "howto")
NEW = "shipping"
CATEGORIES = (*KNOWN, NEW)

PRODUCTS = (
    "Ledgerly", "Orbit Desk", "PayPoint", "Northwind CRM", "Quill", "Atlas ERP", "Beacon Mail", "Harbor", "Mosaic",
    "Stockroom", "Tidewater", "Pulse", "Cobalt", "Lumen", "Trellis", "Granite HR", "Meridian", "Foundry", "Kestrel",
    "Parchment",
)  # fmt: skip
ASSET_PREFIXES = ("LT", "PR", "SV", "MB", "DK", "SC")

SCOPES = {
    "one": (
        "only I am affected", "it happens just for me", "my colleagues do not see it", "nobody else reports it",
        "it concerns me alone", "I am the only one with this", "for my colleagues all is fine",
        "no one else has this", "just my own desk is concerned", "it is only me",
    ),
    "team": (
        "my whole team is affected", "everyone in our group has it", "all ten of us in the department see it",
        "our entire shift is stuck with it", "my team mates have it too", "the whole department is concerned",
        "our group of eight sees the same", "it concerns all of our team", "the shift reports the same",
        "each person in my department has this",
    ),
    "site": (
        "the complete site is down because of it", "all branches report the same", "every customer is affected",
        "nobody in the company can work", "the entire company is concerned", "all sites see it",
        "each of our branches has this", "all customers complain about it", "the whole company is stuck",
        "every site and every branch reports it",
    ),
}  # fmt: skip
WORKAROUNDS = {
    "yes": (
        "we can work around it for now", "there is a manual workaround", "I can use another way meanwhile",
        "it is not blocking today", "a workaround exists", "we manage by hand for now", "meanwhile another way works",
        "it can wait, nothing is blocked", "for now we use another way", "by hand it still works",
    ),
    "no": (
        "there is no workaround", "we are fully blocked", "work has stopped completely",
        "we cannot continue without it", "no workaround is known", "everything is blocked", "work stands still",
        "nothing can continue until it is solved", "we have no other way", "it is blocking us completely",
    ),
}  # fmt: skip
PRIORITIES = {
    ("one", "yes"): "P4", ("one", "no"): "P3", ("team", "yes"): "P3",
    ("team", "no"): "P2", ("site", "yes"): "P2", ("site", "no"): "P1",
}  # fmt: skip

ASSET_SENTENCES = (
    "the asset is {a}", "it is about device {a}", "my asset tag is {a}", "reference {a}", "asset number {a}",
    "the label says {a}", "inventory tag {a}", "this concerns {a}",
)  # fmt: skip
PRODUCT_SENTENCES = ("this is about {p}", "product: {p}", "the product is {p}", "it concerns {p}", "we use {p}")
EXTRAS = (
    "it started on {day}", "{name} asked me to report it", "please call me back in the afternoon",
    "thank you for a quick answer", "I will be in the office until {day}", "{name} can tell you more",
)  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
GREETINGS = ("Hello,", "Hi team,", "Good morning,", "Dear support,", "Hi,", "Hello support desk,")
GOODBYES = ("Thanks", "Best regards", "Thank you", "Kind regards", "Regards")
_NAMES = (
    "Anna Ben Carla David Elif Farid Grace Hugo Ines Jonas Kira Liam Mona Nils Olga Pavel Quinn Rosa Samir Tina Uwe "
    "Vera Will Xenia Yusuf Zoe"
)
NAMES = tuple(_NAMES.split())

_SLOT = re.compile(r"\{(\w+)\}|\(([^()]*\|[^()]*)\)")


@dataclass(frozen=True, slots=True)
class Form:
    """One phrasing of a problem. `id` (such as `billing-017`) is the group by which tickets are split.

    A `sparse` form says little about its topic, so that a ticket needs a detail beside it.
    """

    id: str
    category: str
    skeleton: str
    sparse: bool


@dataclass(frozen=True, slots=True)
class Topic:
    """One category: the team that owns it, its forms, and the words that fill each slot.

    `telling` names the slots whose words belong to this topic alone.
    """

    category: str
    team: str
    forms: tuple[Form, ...]
    details: tuple[str, ...]
    slots: dict[str, tuple[str, ...]]
    telling: tuple[str, ...]


def _lines(block: str) -> tuple[str, ...]:
    return tuple(line for line in block.splitlines() if line.strip())


def _topic(category: str) -> Topic:
    module = MODULES[category]
    slots = {name: tuple(words.split("|")) for name, words in module.SLOTS.items()}
    telling = tuple(name for name in slots if name not in module.WEAK)

    def form(number: int, text: str) -> Form:
        sparse = sum(match[1] in telling for match in _SLOT.finditer(text)) < 2
        return Form(f"{category}-{number:03d}", category, text, sparse)

    forms = tuple(form(i, text) for i, text in enumerate(_lines(module.SKELETONS)))
    return Topic(category, str(module.TEAM), forms, _lines(module.DETAILS), slots, telling)


TOPICS = {category: _topic(category) for category in CATEGORIES}
FORMS = {form.id: form for topic in TOPICS.values() for form in topic.forms}
TEAMS = {topic.category: topic.team for topic in TOPICS.values()}


def phrase(form: Form, product: str, rng: random.Random) -> str:
    """One sentence of the form, without capital or full stop."""
    return _filled(form.skeleton, TOPICS[form.category].slots, product, rng)


def detail(form: Form, product: str, rng: random.Random) -> str:
    """One more sentence on the form's topic, without capital or full stop."""
    topic = TOPICS[form.category]
    return _filled(rng.choice(topic.details), topic.slots, product, rng)


def _filled(text: str, slots: dict[str, tuple[str, ...]], product: str, rng: random.Random) -> str:

    def fill(match: re.Match[str]) -> str:
        if match[2] is not None:
            return rng.choice(str(match[2]).split("|"))
        name = str(match[1])
        return product if name == "p" else rng.choice(slots[name])

    return _SLOT.sub(fill, text)


def names_product(form: Form) -> bool:
    """Whether the form itself mentions the product."""
    return "{p}" in form.skeleton


def asset(rng: random.Random) -> str:
    """An asset tag such as `SV-12345`."""
    return f"{rng.choice(ASSET_PREFIXES)}-{rng.randint(10000, 99999)}"


def sentence(text: str) -> str:
    """The text with a capital and a full stop."""
    return text[0].upper() + text[1:] + ("" if text[-1] in "?!." else ".")
