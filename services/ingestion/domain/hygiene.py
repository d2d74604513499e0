"""Who floods, and who hands our own words back to us: signals that must not train as they are."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from libs.contracts.answers import canonical_answer
from libs.contracts.feedback import FLOOD
from libs.contracts.task import FeedbackSpec
from services.ingestion.domain.signals import Arrival

_HOUR = 3600
_FLOOD = FLOOD + "this {} sent more than {} signals within an hour"
_MOST_SENDERS = 200_000
MOST_ECHOES = 100_000
LEAST_ECHO = 200
"""Characters of an answer that nobody writes twice by chance; labels and short answers coincide all the time."""

Sender = tuple[str, str, str, str, int]
"""Tenant, task, source, the user of it (empty: all that the source sends), and the hour since 1970."""


@dataclass(slots=True)
class Tally:
    """Signals per sender in one batch; they count once the batch is stored."""

    counts: dict[Sender, int] = field(default_factory=dict)


class Senders:
    """Signals per user and per source in each hour of their arrival, for as many senders as fit.

    Held in memory: a restart forgives what was sent in the hour before it, and never accuses anybody.
    """

    def __init__(self) -> None:
        self._counts: OrderedDict[Sender, int] = OrderedDict()

    def weigh(
        self, arrival: Arrival, policy: FeedbackSpec, tally: Tally, asker: str | None = None
    ) -> tuple[float, str | None]:
        """Weight of a signal, 0 to 1, and why a person must look at it, if one must.

        Where it names no user, whoever asked is taken to have sent it.
        """
        weight = policy.weights.get(arrival.source, 1.0) if policy.weights else 1.0
        review: str | None = None
        user = arrival.feedback.user or asker
        if user and policy.user_per_hour:
            over = self._over(arrival, user, policy.user_per_hour, tally)
            if over > 1:
                weight, review = weight / over, _FLOOD.format("user", policy.user_per_hour)
        if policy.source_per_hour:
            over = self._over(arrival, "", policy.source_per_hour, tally)
            if over > 1:
                weight, review = weight / over, _FLOOD.format("source", policy.source_per_hour)
        return weight, review

    def _over(self, arrival: Arrival, user: str, limit: int, tally: Tally) -> float:
        """Count one more; how many times the limit that makes."""
        hour = int(arrival.at) // _HOUR
        sender = (arrival.tenant, arrival.task, arrival.source, user, hour)
        tally.counts[sender] = now = tally.counts.get(sender, 0) + 1
        return (self._counts.get(sender, 0) + now) / limit

    def stored(self, tally: Tally) -> None:
        """The batch of a tally is stored: its signals count from now on."""
        for sender, sent in tally.counts.items():
            self._counts[sender] = self._counts.pop(sender, 0) + sent
        while len(self._counts) > _MOST_SENDERS:
            self._counts.popitem(last=False)


class Echoes:
    """Long answers that our own models gave lately, so that they are known when they come back as corrections."""

    def __init__(self) -> None:
        self._seen: OrderedDict[int, int] = OrderedDict()

    def heard(self, tenant: str, task: str, outputs: Iterable[tuple[str, int]]) -> None:
        """Remember answers with the version that gave each."""
        for output, version in outputs:
            canonical = canonical_answer(output)
            if _may_echo(canonical):
                self._seen[_mark(tenant, task, canonical)] = version
        while len(self._seen) > MOST_ECHOES:
            self._seen.popitem(last=False)

    def version_of(self, tenant: str, task: str, canonical: str) -> int | None:
        """The version that gave this very answer, in canonical form; None when none is known to have."""
        if not self._seen or not _may_echo(canonical):
            return None
        return self._seen.get(_mark(tenant, task, canonical))


def _may_echo(canonical: str) -> bool:
    # Structured answers are meant to be the same for the same case.
    return len(canonical) >= LEAST_ECHO and canonical[0] not in "{["


def _mark(tenant: str, task: str, canonical: str) -> int:
    """Stands for an answer within this process: Python's own hash, whose key nobody outside it knows."""
    return hash((tenant, task, canonical.casefold()))
