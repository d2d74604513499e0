"""General ability on a small scale: copying, key look-up and JSON form, which any base should keep when fine-tuned."""

import json
import random
from collections.abc import Callable

from libs.contracts.inference import Message
from services.evaluator.domain.suite import Item

WORDS = (
    "apple", "bridge", "candle", "door", "engine", "forest", "garden", "house", "island", "kitchen", "letter", "market",
    "morning", "mountain", "number", "ocean", "paper", "picture", "river", "road", "school", "silver", "station",
    "summer", "table", "tower", "train", "valley", "village", "window", "winter", "yellow",
)  # fmt: skip
NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Henry", "Ida", "Jonas", "Lena", "Max")
CITIES = ("Berlin", "Lyon", "Porto", "Oslo", "Graz", "Turin", "Cork", "Gent", "Bern")
COLOURS = ("red", "blue", "green", "grey", "black", "white", "yellow", "brown")


def general_items(count: int, seed: int, system: str) -> tuple[Item, ...]:
    """`count` items, as many of each kind, asked under `system`; the kind is the category."""
    kinds: tuple[Callable[[random.Random], tuple[str, str]], ...] = (_copy, _lookup, _form)
    items = []
    for number in range(count):
        rng = random.Random(f"general/{seed}/{number}")
        make = kinds[number % len(kinds)]
        question, answer = make(rng)
        told = (Message(role="system", content=system),) if system else ()
        name = f"general:{seed}:{number}"
        items.append(Item(name, (*told, Message(role="user", content=question)), answer, make.__name__[1:], name))
    return tuple(items)


def _token(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.4:
        return f"{rng.choice('ABCDEFGHKMPRSTW')}{rng.choice('ABCDEFGHKMPRSTW')}-{rng.randint(10000, 99999)}"
    return rng.choice(WORDS) if kind < 0.8 else str(rng.randint(10, 99999))


def _copy(rng: random.Random) -> tuple[str, str]:
    text = " ".join(_token(rng) for _ in range(rng.randint(1, 6)))
    return f"{rng.choice(('Repeat:', 'Copy this exactly:', 'Say again:'))} {text}", text


def _lookup(rng: random.Random) -> tuple[str, str]:
    keys = rng.sample(WORDS, rng.randint(2, 4))
    values = [_token(rng) for _ in keys]
    pick = rng.randrange(len(keys))
    facts = "; ".join(f"{key} is {value}" for key, value in zip(keys, values, strict=True))
    return f"{facts}. What is {keys[pick]}?", values[pick]


def _form(rng: random.Random) -> tuple[str, str]:
    values: dict[str, str | int] = {
        "name": rng.choice(NAMES),
        "city": rng.choice(CITIES),
        "color": rng.choice(COLOURS),
        "count": rng.randint(1, 99),
    }
    keys = rng.sample(list(values), rng.randint(1, 3))
    told = list(keys)
    rng.shuffle(told)
    lines = " ".join(f"The {key} is {values[key]}." for key in told)
    return f"Return JSON with {', '.join(keys)}. {lines}", json.dumps({key: values[key] for key in keys})
