"""Draws a campaign: which items, who votes how often, and on which side each answer stands; all from one seed."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from libs.contracts.answers import same_answer
from libs.contracts.campaign import Kind, Side, Slot, text_digest
from libs.contracts.errors import InvalidInput
from services.evaluator.domain.campaign import Candidate, Design, Item, Plan, shown, texts

T = TypeVar("T")

_BLOCK = 4
_GAP = 10
"""Slots between a pair and its swapped repeat, at the least."""


@dataclass(slots=True, eq=False)
class _Draft:
    key: float
    item: Item
    kind: Kind
    treatment: Side
    repeats: "_Draft | None" = None


def draw(candidates: Sequence[Candidate], design: Design) -> Plan:
    """Items and slots of a campaign; InvalidInput when nothing is left to ask about.

    Sides are balanced in permuted blocks within each category, so that any stretch of the order is; the presentations
    of one item alternate. A function of the candidates and the design alone.
    """
    rng = random.Random(design.seed)
    sampled, rest = _sample(candidates, design.max_items, rng)
    agreed = {each.item_id for each in sampled if same_answer(shown(each.treatment), shown(each.control))}
    asked = [each for each in sampled if design.ask_identical or each.item_id not in agreed]
    if not asked:
        raise InvalidInput(
            f"the arms gave the same answer to all {len(sampled)} items; there is nothing to compare", field="report_id"
        )
    wanted = dict.fromkeys((each.item_id for each in asked), 1)
    wanted |= {each.item_id: design.raters for each in _some(asked, design.overlap, rng)}
    items = {each.item_id: _item(each, each.item_id in agreed, wanted.get(each.item_id, 0)) for each in sampled}
    # Those left out belong to it too: nobody is asked about them, but a judge's view of them may count.
    items |= {each.item_id: _item(each, agreed=False, wanted=0) for each in rest}
    drafts = _pairs([items[each.item_id] for each in asked], rng)
    repeats = [_swapped(draft, drafts, rng) for draft in _some(drafts, design.swapped, rng, whole=len(asked))]
    for draft in list(drafts):
        drafts += _again(draft, rng)
    # An item both arms answered alike, or that nobody is asked about, can be shown twice without giving a pair away.
    spare = [each for each in sampled if each.item_id in agreed and not design.ask_identical] + rest or asked
    drafts += _same(spare, round(design.same_arm * len(asked)), items, rng)
    drafts += repeats
    return Plan(tuple(items.values()), _numbered(sorted(drafts, key=lambda draft: draft.key)))


def _sample(candidates: Sequence[Candidate], most: int, rng: random.Random) -> tuple[list[Candidate], list[Candidate]]:
    """At most `most` candidates with the categories in proportion, and those left out."""
    by_category: dict[str, list[Candidate]] = {}
    for each in sorted(candidates, key=lambda each: each.item_id):
        by_category.setdefault(each.category, []).append(each)
    keyed = []
    for category in sorted(by_category):
        members = by_category[category]
        rng.shuffle(members)
        keyed += [((place + rng.random()) / len(members), each) for place, each in enumerate(members)]
    ordered = [each for _, each in sorted(keyed, key=lambda row: row[0])]
    return ordered[:most], ordered[most:]


def _item(each: Candidate, agreed: bool, wanted: int) -> Item:
    return Item(
        each.item_id, each.category, each.group, each.messages, each.treatment, each.control, agreed, wanted
    )  # fmt: skip


def _some(rows: Sequence[T], fraction: float, rng: random.Random, whole: int | None = None) -> list[T]:
    count = min(len(rows), round(fraction * (len(rows) if whole is None else whole)))
    return rng.sample(list(rows), count)


def _pairs(items: Sequence[Item], rng: random.Random) -> list[_Draft]:
    """The first presentation of each item, in order, with balanced sides."""
    sides: dict[str, list[Side]] = {}
    drafts = []
    for place, item in enumerate(items):
        block = sides.setdefault(item.category, [])
        if not block:
            halves: list[Side] = ["left", "right"] * (_BLOCK // 2)
            rng.shuffle(halves)
            block += halves
        drafts.append(_Draft((place + rng.random()) / len(items), item, "pair", block.pop()))
    return sorted(drafts, key=lambda draft: draft.key)


def _again(draft: _Draft, rng: random.Random) -> Iterable[_Draft]:
    side = draft.treatment
    for _ in range(draft.item.wanted - 1):
        side = _other(side)
        yield _Draft(draft.key + rng.random() * (1.0 - draft.key), draft.item, "pair", side)


def _swapped(draft: _Draft, drafts: Sequence[_Draft], rng: random.Random) -> _Draft:
    after = drafts.index(draft) + _GAP
    earliest = drafts[after].key if after < len(drafts) else 1.0
    return _Draft(earliest + rng.random(), draft.item, "swap", _other(draft.treatment), draft)


def _same(spare: Sequence[Candidate], count: int, items: dict[str, Item], rng: random.Random) -> Iterable[_Draft]:
    for each in rng.sample(list(spare), min(count, len(spare))):
        item = items.setdefault(each.item_id, _item(each, agreed=False, wanted=0))
        yield _Draft(rng.random(), item, "same", rng.choice(("left", "right")))


def _other(side: Side) -> Side:
    return "right" if side == "left" else "left"


def _numbered(drafts: Sequence[_Draft]) -> tuple[Slot, ...]:
    numbers = {id(draft): number for number, draft in enumerate(drafts, 1)}
    slots = []
    for draft in drafts:
        bare = Slot(
            number=numbers[id(draft)], item_id=draft.item.item_id, kind=draft.kind, treatment=draft.treatment,
            left_digest="", right_digest="", repeats=numbers[id(draft.repeats)] if draft.repeats else None,
        )  # fmt: skip
        left, right = texts(draft.item, bare)
        slots.append(bare.model_copy(update={"left_digest": text_digest(left), "right_digest": text_digest(right)}))
    return tuple(slots)
