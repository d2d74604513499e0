"""Who floods, and who hands our own words back to us: signals that must not train as they are."""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b

from libs.contracts.task import FeedbackSpec
from services.ingestion.domain.signals import Arrival

_HOUR = 3600
_MOST_SENDERS = 200_000
_MOST_ECHOES = 100_000
_LEAST_ECHO = 200
"""Characters of an answer that nobody writes twice by chance; labels and short answers coincide all the time."""

Sender = tuple[str, str, str, str, int]
"""Tenant, task, `user` or `source`, its name, and the hour since 1970."""


@dataclass(slots=True)
class Tally:
    """Signals per sender in one batch; they count once the batch is stored."""

    counts: Counter[Sender] = field(default_factory=Counter)


class Senders:
    """Signals per user and per source in each hour of their arrival, for as many senders as fit.

    Held in memory: a restart forgives what was sent in the hour before it, and never accuses anybody.
    """

    def __init__(self) -> None:
        self._counts: OrderedDict[Sender, int] = OrderedDict()

    def weigh(self, arrival: Arrival, policy: FeedbackSpec, tally: Tally) -> tuple[float, str | None]:
        """Weight of a signal, 0 to 1, and why a person must look at it, if one must."""
        weight = policy.weights.get(arrival.source, 1.0) if policy.weights else 1.0
        review: str | None = None
        hour = int(arrival.arrived_at.timestamp()) // _HOUR
        limits = (
            ("user", arrival.feedback.user, policy.user_per_hour),
            ("source", arrival.source, policy.source_per_hour),
        )
        for kind, name, limit in limits:
            if not limit or not name:
                continue
            sender = (
                arrival.tenant,
                arrival.task,
                kind,
                name if kind == "source" else f"{arrival.source}/{name}",
                hour,
            )
            tally.counts[sender] += 1
            sent = self._counts.get(sender, 0) + tally.counts[sender]
            if sent > limit:
                weight *= limit / sent
                review = f"flood: this {kind} sent more than {limit} signals within an hour"
        return weight, review

    def stored(self, tally: Tally) -> None:
        """The batch of a tally is stored: its signals count from now on."""
        for sender, sent in tally.counts.items():
            self._counts[sender] = self._counts.pop(sender, 0) + sent
        while len(self._counts) > _MOST_SENDERS:
            self._counts.popitem(last=False)


class Echoes:
    """Long answers that our own models gave lately, so that they are known when they come back as corrections."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, int] = OrderedDict()

    def heard(self, tenant: str, task: str, outputs: Iterable[tuple[str, int]]) -> None:
        """Remember answers with the version that gave each."""
        for output, version in outputs:
            if _may_echo(output):
                self._seen[_digest(tenant, task, output)] = version
        while len(self._seen) > _MOST_ECHOES:
            self._seen.popitem(last=False)

    def version_of(self, tenant: str, task: str, text: str | None) -> int | None:
        """The version that gave this very text, None when none is known to have."""
        if text is None or not self._seen or not _may_echo(text):
            return None
        return self._seen.get(_digest(tenant, task, text))


def _may_echo(text: str) -> bool:
    # Structured answers are meant to be the same for the same case.
    return len(text) >= _LEAST_ECHO and text[:1] not in "{["


def _digest(tenant: str, task: str, text: str) -> bytes:
    plain = " ".join(text.casefold().split())
    return blake2b(f"{tenant}\0{task}\0{plain}".encode("utf-8", "surrogatepass"), digest_size=12).digest()
