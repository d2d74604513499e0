"""A blind campaign: what is compared, how it was designed, and what a reviewer may be shown."""

import re
from dataclasses import dataclass

from libs.contracts.campaign import Slot
from libs.contracts.errors import InvalidInput
from libs.contracts.inference import Message
from services.evaluator.domain.campaign_masks import MASK

OPEN, CLOSED = "open", "closed"
_VERSION_NAME = re.compile(r"\b[a-z0-9][a-z0-9-]{0,62}@\d+\b")


@dataclass(frozen=True, slots=True)
class Design:
    """How a campaign is made. Fractions are of the items asked about.

    `overlap` of them are voted on by `raters` reviewers, the rest by one; `same_arm` more show one answer twice (they
    measure the pull of a side), `swapped` come again to the same reviewer with the sides exchanged.
    """

    seed: int
    max_items: int = 200
    overlap: float = 0.15
    raters: int = 3
    same_arm: float = 0.05
    swapped: float = 0.05
    reservation_seconds: float = 600.0
    ask_identical: bool = False

    def __post_init__(self) -> None:
        for name in ("overlap", "same_arm", "swapped"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InvalidInput(f"{name} is a fraction of the items, between 0 and 1", field=name)
        if not 1 <= self.max_items <= 5000:
            raise InvalidInput("max_items lies between 1 and 5000", field="max_items")
        if not 1 <= self.raters <= 9:
            raise InvalidInput("raters lies between 1 and 9", field="raters")
        if not 10.0 <= self.reservation_seconds <= 86_400.0:
            raise InvalidInput("a reservation lasts between 10 seconds and a day", field="reservation_seconds")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An item of a report with the answers of the two arms; `group` is its cluster."""

    item_id: str
    category: str
    group: str
    messages: tuple[Message, ...]
    treatment: str
    control: str


@dataclass(frozen=True, slots=True)
class Item:
    """An item that takes part. `agreed`: both arms gave the same answer, which is a tie without asking anybody."""

    item_id: str
    category: str
    group: str
    messages: tuple[Message, ...]
    treatment: str
    control: str
    agreed: bool
    wanted: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The items that take part and the order in which pairs are shown."""

    items: tuple[Item, ...]
    slots: tuple[Slot, ...]


@dataclass(frozen=True, slots=True)
class Campaign:
    """One campaign; `head` is the hash of the newest ballot, or the commitment while there is none."""

    campaign_id: str
    tenant: str
    task: str
    report_id: str
    treatment: str
    control: str
    name: str
    guidelines: str
    state: str
    commitment: str
    nonce: str
    head: str
    design: Design
    opened_by: str
    opened_at: float
    closed_at: float | None = None


def shown(text: str) -> str:
    """An answer as reviewers see it: names of versions are masked, and blanks at the ends tell nothing."""
    return _VERSION_NAME.sub(MASK, text.replace("\r\n", "\n")).strip()


def texts(item: Item, slot: Slot) -> tuple[str, str]:
    """(left, right) as shown at a slot."""
    treatment, control = shown(item.treatment), shown(item.control)
    if slot.kind == "same":
        return treatment, treatment
    return (treatment, control) if slot.treatment == "left" else (control, treatment)
