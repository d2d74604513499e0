"""What a key has used: buckets that fill by the clock, empty by use, and say when to come back."""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import TracebackType

from libs.contracts.errors import Busy
from libs.contracts.routes import KeyLimits
from services.serving.gateway.domain.calls import NO_LIMITS, Caller

MINUTE, DAY = 60.0, 86_400.0
_MAX_KEYS = 10_000


@dataclass(slots=True)
class Bucket:
    """`limit` units each `period` seconds, saved up to one period; it may go below nothing, and then nobody enters.

    Tokens are known only after an answer: whoever enters on the last one pays the whole answer from the future.
    """

    limit: int
    period: float
    level: float
    at: float

    def wait(self, need: float, now: float) -> float:
        """Seconds until `need` units are there; 0 when they are."""
        self._fill(now)
        return max(0.0, (need - self.level) * self.period / self.limit)

    def take(self, units: float, now: float) -> None:
        """Use units up."""
        self._fill(now)
        self.level -= units

    def _fill(self, now: float) -> None:
        self.level = min(float(self.limit), self.level + max(0.0, now - self.at) * self.limit / self.period)
        self.at = now


@dataclass(slots=True)
class _Account:
    limits: KeyLimits
    requests: Bucket | None
    tokens: Bucket | None
    daily: Bucket | None
    in_flight: int = 0

    def __enter__(self) -> None:
        self.in_flight += 1

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.in_flight -= 1


_UNCOUNTED = nullcontext()


@dataclass(slots=True)
class Quotas:
    """Accounts of the keys seen lately, by tenant and name; each gateway keeps its own."""

    _accounts: dict[tuple[str, str], _Account] = field(default_factory=dict)

    def admit(self, caller: Caller, now: float) -> AbstractContextManager[None]:
        """Count one request while it runs. Raises Busy, with `retry_after` in seconds, where the key has used it up."""
        if caller.limits is NO_LIMITS or caller.limits == NO_LIMITS:
            return _UNCOUNTED
        account = self._account(caller, now)
        limit = caller.limits.in_flight
        if limit is not None and account.in_flight >= limit:
            raise _spent(caller, f"{limit} requests at once", "KEY_IN_FLIGHT", 1.0)
        for bucket, need, what, reason in (
            (account.requests, 1.0, "requests a minute", "KEY_REQUESTS"),
            (account.tokens, 0.0, "tokens a minute", "KEY_TOKENS"),
            (account.daily, 0.0, "tokens a day", "KEY_TOKENS_DAILY"),
        ):
            wait = bucket.wait(need, now) if bucket is not None else 0.0
            if bucket is not None and wait > 0:
                raise _spent(caller, f"{bucket.limit} {what}", reason, wait)
        if account.requests is not None:
            account.requests.take(1.0, now)
        return account

    def charge(self, caller: Caller, tokens: int, now: float) -> None:
        """Charge an answer's tokens, prompt included."""
        account = self._accounts.get((caller.tenant, caller.name))
        for bucket in (account.tokens, account.daily) if account is not None else ():
            if bucket is not None:
                bucket.take(tokens, now)

    def _account(self, caller: Caller, now: float) -> _Account:
        name = (caller.tenant, caller.name)
        account = self._accounts.get(name)
        if account is None or account.limits != caller.limits:
            limits = caller.limits
            fresh = _Account(
                limits,
                _bucket(limits.requests_per_minute, MINUTE, now),
                _bucket(limits.tokens_per_minute, MINUTE, now),
                _bucket(limits.tokens_per_day, DAY, now),
                account.in_flight if account is not None else 0,
            )
            if len(self._accounts) >= _MAX_KEYS:
                del self._accounts[next(iter(self._accounts))]
            account = self._accounts[name] = fresh
        return account


def _bucket(limit: int | None, period: float, now: float) -> Bucket | None:
    return None if limit is None else Bucket(limit, period, float(limit), now)


def _spent(caller: Caller, what: str, reason: str, wait: float) -> Busy:
    seconds = max(1, math.ceil(wait))
    return Busy(f"the key {caller.name!r} may use {what}; try again in {seconds} s", reason=reason, retry_after=seconds)
