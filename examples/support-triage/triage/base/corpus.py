"""The text the tiny base learns from: tickets, threads and small tasks, none of which tells how a ticket is triaged."""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from triage.base.words import CITIES, COLOURS, COMMON, GOODS, LABEL_WORDS, REASONS, STATES
from triage.language import (
    CATEGORIES,
    DAYS,
    NAMES,
    PRODUCTS,
    SCOPES,
    TOPICS,
    WORKAROUNDS,
    asset,
    detail,
    phrase,
    sentence,
)
from triage.tickets import body

SYSTEMS = ("", "", "Answer the question.", "Read the ticket.", "Answer briefly.", "Follow the request.", "Do the task.")
TRIAGE_KEYS = frozenset({"category", "priority", "team"})
AFFECTED = {"one": "one person", "team": "a team", "site": "everyone"}


@dataclass(frozen=True, slots=True)
class Task:
    """A question and its answer; `system` may be empty."""

    system: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Reading:
    """A ticket text with what can be read from it; its topic is known to the generator and never told."""

    text: str
    topic: str
    product: str
    asset: str
    scope: str
    workaround: str


def reading(rng: random.Random) -> Reading:
    """A random ticket of any of the nine topics."""
    topic = rng.choice(CATEGORIES)
    product, tag = rng.choice(PRODUCTS), asset(rng)
    scope, workaround = rng.choice(list(SCOPES)), rng.choice(list(WORKAROUNDS))
    text = body(rng.choice(TOPICS[topic].forms), product, tag, scope, workaround, rng)
    return Reading(text, topic, product, tag, scope, workaround)


def token(rng: random.Random) -> str:
    """A word, number or code to copy."""
    kind = rng.random()
    if kind < 0.35:
        return asset(rng)
    if kind < 0.55:
        return rng.choice(COMMON)
    if kind < 0.65:
        return rng.choice(LABEL_WORDS)
    if kind < 0.75:
        return rng.choice(PRODUCTS)
    if kind < 0.85:
        return str(rng.randint(10, 99999))
    letters = "".join(rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(3))
    return f"{letters}-{rng.randint(0, 9)}" if kind < 0.93 else f"{letters}{rng.randint(10, 999)}"


def copy(rng: random.Random) -> tuple[str, str]:
    """Repeat words and codes."""
    words = " ".join(token(rng) for _ in range(rng.randint(1, 8)))
    return f"{rng.choice(('Repeat:', 'Copy this exactly:', 'Say again:'))} {words}", words


def lookup(rng: random.Random) -> tuple[str, str]:
    """Find the value of a key."""
    keys = rng.sample(COMMON, rng.randint(2, 6))
    values = [token(rng) for _ in keys]
    pick = rng.randrange(len(keys))
    facts = "; ".join(f"{k} is {v}" for k, v in zip(keys, values, strict=True))
    return f"{facts}. What is {keys[pick]}?", values[pick]


def _facts(rng: random.Random) -> dict[str, str | int]:
    return {
        "name": rng.choice(NAMES), "city": rng.choice(CITIES), "device": asset(rng), "asset": asset(rng),
        "product": rng.choice(PRODUCTS), "day": rng.choice(DAYS), "count": rng.randint(1, 99),
        "owner": rng.choice(NAMES), "reason": rng.choice(REASONS), "state": rng.choice(STATES),
        "note": rng.choice(LABEL_WORDS), "color": rng.choice(COLOURS), "order": rng.randint(1000, 9999),
        "category": rng.choice(GOODS), "priority": rng.choice(("P", "Q", "R")) + str(rng.randint(1, 9)),
        "team": rng.choice((rng.choice(COLOURS), token(rng))),
    }  # fmt: skip


def json_keys(rng: random.Random, names: list[str], n: int) -> list[str]:
    """`n` keys of which at most one is a key of the triage answer, so that its schema never occurs."""
    keys = rng.sample(names, n)
    triage = [k for k in keys if k in TRIAGE_KEYS]
    return [k for k in keys if k not in triage[1:]]


def _object(rng: random.Random, values: dict[str, str | int], keys: list[str]) -> tuple[str, str]:
    """The keys as asked for and the compact object; the last keys may be nested in a part of their own."""
    if len(keys) > 2 and rng.random() < 0.45:
        cut = rng.randint(1, len(keys) - 1)
        outer = rng.choice(("entities", "details", "item"))
        nested = {**{k: values[k] for k in keys[:cut]}, outer: {k: values[k] for k in keys[cut:]}}
        asked = ", ".join((*keys[:cut], f"{outer} ({', '.join(keys[cut:])})"))
        return asked, json.dumps(nested, separators=(",", ":"))
    return ", ".join(keys), json.dumps({k: values[k] for k in keys}, separators=(",", ":"))


def extract(rng: random.Random) -> tuple[str, str]:
    """Return the asked facts as JSON of a schema drawn anew each time."""
    values = _facts(rng)
    keys = json_keys(rng, list(values), rng.randint(1, 4))
    told = list(dict.fromkeys((*keys, *rng.sample(list(values), 2))))
    rng.shuffle(told)
    lines = [
        rng.choice((f"The {k} is {values[k]}.", f"{k.capitalize()}: {values[k]}.", f"We have {values[k]} as {k}."))
        for k in told
    ]
    asked, answer = _object(rng, values, keys)
    return f"Return JSON with {asked}. {' '.join(lines)}", answer


def extract_ticket(rng: random.Random) -> tuple[str, str]:
    """Return what a ticket says as JSON: never its category, priority or team."""
    ticket = reading(rng)
    values: dict[str, str | int] = {
        "product": ticket.product,
        "asset": ticket.asset,
        "affected": AFFECTED[ticket.scope],
        "workaround": ticket.workaround,
    }
    asked, answer = _object(rng, values, rng.sample(list(values), rng.randint(1, 4)))
    return f"Return JSON with {asked}. {ticket.text}", answer


def read(rng: random.Random) -> tuple[str, str]:
    """Answer questions on a ticket."""
    ticket = reading(rng)
    questions = (
        ("Which product is meant?", ticket.product),
        ("Which asset is named?", ticket.asset),
        ("Who is affected?", AFFECTED[ticket.scope]),
        ("Is there a workaround?", ticket.workaround),
    )
    asked = rng.sample(questions, rng.randint(1, 3))
    question, answer = " ".join(q for q, _ in asked), " | ".join(a for _, a in asked)
    return (f"{ticket.text} {question}" if rng.random() < 0.5 else f"{question} {ticket.text}"), answer


def topic_words(topic: str) -> list[str]:
    """The words that belong to a topic alone, without those that hold a label."""
    words = [w for name in TOPICS[topic].telling for w in TOPICS[topic].slots[name]]
    return [w for w in words if not any(label in w.lower() for label in LABEL_WORDS)]


def _line(topic: str, rng: random.Random) -> str:
    form, product = rng.choice(TOPICS[topic].forms), rng.choice(PRODUCTS)
    said = phrase(form, product, rng)
    return sentence(said) + (" " + sentence(detail(form, product, rng)) if form.sparse else "")


def same_topic(rng: random.Random) -> tuple[str, str]:
    """Say whether two problems are of one kind."""
    one, other = rng.sample(CATEGORIES, 2)
    same = rng.random() < 0.5
    return f"Same kind? {_line(one, rng)} / {_line(one if same else other, rng)}", "yes" if same else "no"


def fitting(rng: random.Random) -> tuple[str, str]:
    """Choose the word that fits a ticket among words of other kinds of problems."""
    ticket = reading(rng)
    others = rng.sample([c for c in CATEGORIES if c != ticket.topic], rng.randint(2, 3))
    right = rng.choice(topic_words(ticket.topic))
    words = [right, *(rng.choice(topic_words(c)) for c in others)]
    rng.shuffle(words)
    return f"{ticket.text} Which fits: {', '.join(words)}?", right


def odd_one(rng: random.Random) -> tuple[str, str]:
    """Find the word that does not belong with the others."""
    one, other = rng.sample(CATEGORIES, 2)
    odd = rng.choice(topic_words(other))
    words = [odd, *rng.sample(topic_words(one), 3)]
    rng.shuffle(words)
    return f"Which does not belong: {', '.join(words)}?", odd


def related(rng: random.Random) -> tuple[str, str]:
    """Name words that go with a ticket."""
    topic = rng.choice(CATEGORIES)
    words = ", ".join(rng.sample(topic_words(topic), 3))
    return f"{_line(topic, rng)} Which words go with it?", words


Maker = Callable[[random.Random], tuple[str, str]]
MAKERS: dict[str, Maker] = {
    "copy": copy,
    "lookup": lookup,
    "extract": extract,
    "extract_ticket": extract_ticket,
    "read": read,
    "same_topic": same_topic,
    "fitting": fitting,
    "odd_one": odd_one,
    "related": related,
}
EXACT = tuple(kind for kind in MAKERS if kind != "related")  # the kinds with one right answer
FIRST = dict(zip(MAKERS, (0.14, 0.10, 0.17, 0.15, 0.16, 0.10, 0.12, 0.06, 0.0), strict=True))
SECOND = dict(zip(MAKERS, (0.10, 0.08, 0.10, 0.12, 0.12, 0.08, 0.05, 0.05, 0.30), strict=True))


def task(rng: random.Random, shares: Mapping[str, float] = SECOND) -> Task:
    """One task of a kind drawn by its share."""
    kind = rng.choices(list(shares), list(shares.values()))[0]
    question, answer = MAKERS[kind](rng)
    return Task(rng.choice(SYSTEMS), question, answer)


def prose(rng: random.Random) -> str:
    """One plain document: a ticket, a thread on one topic, words that go together, or common words."""
    kind = rng.random()
    if kind < 0.45:
        return reading(rng).text
    if kind < 0.75:
        topic = rng.choice(CATEGORIES)
        return " ".join(_line(topic, rng) for _ in range(rng.randint(2, 5)))
    if kind < 0.85:
        words = topic_words(rng.choice(CATEGORIES))
        return f"Words that go together: {', '.join(rng.sample(words, min(len(words), rng.randint(4, 8))))}."
    if kind < 0.93:
        options = rng.choice((*SCOPES.values(), *WORKAROUNDS.values()))
        return f"In other words: {'; '.join(rng.sample(options, 3))}."
    return sentence(" ".join(rng.choice(COMMON) for _ in range(rng.randint(6, 20))))
