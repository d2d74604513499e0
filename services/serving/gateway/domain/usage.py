"""What was used, for showback: answers, tokens, engine time and cost by day, tenant, task, version, purpose and key."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta

_KEPT_DAYS = 92


@dataclass(frozen=True, slots=True, order=True)
class UsageKey:
    """Who used what, when. `day` is a UTC date such as `2026-01-31`."""

    day: str
    tenant: str
    task: str
    version: int
    purpose: str
    key: str


@dataclass(frozen=True, slots=True)
class Use:
    """How much. `engine_seconds` is busy time shared among the requests that ran together; `cost` is in money."""

    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    engine_seconds: float = 0.0
    cost: float = 0.0

    def plus(self, other: "Use") -> "Use":
        """Both together."""
        return Use(
            self.answers + other.answers,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.engine_seconds + other.engine_seconds,
            self.cost + other.cost,
        )


@dataclass(slots=True)
class Ledger:
    """Sums of one gateway, for about three months."""

    held: dict[UsageKey, Use] = field(default_factory=dict)

    def add(self, key: UsageKey, use: Use) -> None:
        """Add to a sum; the first entry of a day lets the days go that are past keeping."""
        if key not in self.held:
            oldest = (date.fromisoformat(key.day) - timedelta(days=_KEPT_DAYS)).isoformat()
            for old in [each for each in self.held if each.day < oldest]:
                del self.held[old]
        self.held[key] = self.held.get(key, Use()).plus(use)

    def between(self, since: str, until: str, tenant: str | None) -> Iterable[tuple[UsageKey, Use]]:
        """The sums of the days from `since` to `until`, both included, empty is open; of a tenant, None of all."""
        for key in sorted(self.held):
            if key.day >= since and (not until or key.day <= until) and tenant in (None, key.tenant):
                yield key, self.held[key]
