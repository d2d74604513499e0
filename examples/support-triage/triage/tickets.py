"""Support tickets with their strict JSON answer, generated from a seed."""

import json
import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from triage.language import (
    ASSET_SENTENCES,
    CATEGORIES,
    DAYS,
    EXTRAS,
    FORMS,
    GOODBYES,
    GREETINGS,
    KNOWN,
    NAMES,
    PRIORITIES,
    PRODUCT_SENTENCES,
    PRODUCTS,
    SCOPES,
    TEAMS,
    TOPICS,
    WORKAROUNDS,
    Form,
    asset,
    detail,
    names_product,
    phrase,
    sentence,
)

SYSTEM_PROMPT = "Triage the ticket."
SEGMENTS = ("enterprise", "business", "starter")
KEYS = ("category", "priority", "team", "entities")


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket and its right answer; `form` names the phrasing and is the group by which data is split."""

    id: str
    text: str
    answer: str
    category: str
    form: str
    user: str
    customer: str
    segment: str
    language: str
    product: str
    asset: str


def answer(category: str, priority: str, product: str, asset_tag: str, team: str | None = None) -> str:
    """The strict answer: compact JSON, fixed key order."""
    body = {
        "category": category,
        "priority": priority,
        "team": team or TEAMS[category],
        "entities": {"product": product, "asset": asset_tag},
    }
    return json.dumps(body, separators=(",", ":"))


def body(form: Form, product: str, asset_tag: str, scope: str, workaround: str, rng: random.Random) -> str:
    """The text of one ticket; sentences come in varying order, greeting and signature come and go."""
    head = phrase(form, product, rng)
    rest = [
        rng.choice(ASSET_SENTENCES).format(a=asset_tag),
        rng.choice(SCOPES[scope]),
        rng.choice(WORKAROUNDS[workaround]),
    ]
    if not names_product(form):
        rest.append(rng.choice(PRODUCT_SENTENCES).format(p=product))
    if rng.random() < 0.25:
        rest.append(rng.choice(EXTRAS).format(day=rng.choice(DAYS), name=rng.choice(NAMES)))
    if form.sparse or rng.random() < 0.3:
        rest.append(detail(form, product, rng))
    rng.shuffle(rest)
    lines = [head, *rest] if rng.random() < 0.75 else [rest[0], head, *rest[1:]]
    text = " ".join(sentence(line) for line in lines)
    if rng.random() < 0.5:
        text = f"{rng.choice(GREETINGS)} {text}"
    if rng.random() < 0.35:
        text = f"{text} {rng.choice(GOODBYES)}, {rng.choice(NAMES)}"
    return text


def tickets(
    seed: int,
    n: int,
    *,
    categories: Collection[str] = KNOWN,
    forms: Collection[str] | None = None,
    weights: Mapping[str, float] | None = None,
) -> Iterator[Ticket]:
    """`n` tickets, the same for the same arguments.

    `forms` restricts the phrasings by id; `weights` sets the relative share of each category (1.0 where absent).
    Raises ValueError if a category or form is unknown, or a category is left without forms.
    """
    unknown = sorted({c for c in categories if c not in TOPICS} | {f for f in forms or () if f not in FORMS})
    if unknown:
        raise ValueError(f"unknown categories or forms: {', '.join(unknown)}; categories are {', '.join(CATEGORIES)}")
    wanted = [c for c in CATEGORIES if c in categories]
    pools = {c: [f for f in TOPICS[c].forms if forms is None or f.id in forms] for c in wanted}
    empty = [c for c, pool in pools.items() if not pool]
    if empty or not wanted:
        raise ValueError(f"no forms left for {', '.join(empty) or 'any category'}")
    shares = [(weights or {}).get(c, 1.0) for c in wanted]
    rng = random.Random(f"tickets-{seed}")
    for i in range(n):
        category = rng.choices(wanted, shares)[0]
        form = rng.choice(pools[category])
        product, tag = rng.choice(PRODUCTS), asset(rng)
        scope, workaround = rng.choice(list(SCOPES)), rng.choice(list(WORKAROUNDS))
        text = body(form, product, tag, scope, workaround, rng)
        customer = rng.randint(1, 60)
        yield Ticket(
            id=f"t{seed}-{i:06d}",
            text=text,
            answer=answer(category, PRIORITIES[scope, workaround], product, tag),
            category=category,
            form=form.id,
            user=f"u-{customer * 40 + rng.randrange(40):05d}",
            customer=f"c-{customer:03d}",
            segment=SEGMENTS[customer % len(SEGMENTS)],
            language="en",
            product=product,
            asset=tag,
        )


def poisoned(source: Ticket) -> Ticket:
    """The same ticket with a wrong answer: category, team and priority are moved one place on.

    The change is systematic, so that training on such tickets teaches something wrong instead of adding noise.
    """
    right = json.loads(source.answer)
    wrong = KNOWN[(CATEGORIES.index(source.category) + 1) % len(KNOWN)]
    priority = f"P{int(right['priority'][1:]) % 4 + 1}"
    return replace(source, answer=answer(wrong, priority, source.product, source.asset))
