"""Which versions an engine holds and who is using them: nothing is removed under a request."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from libs.contracts.errors import FailedPrecondition

NOT_ROUTABLE = "VERSION_NOT_ROUTABLE"
FETCHING, VERIFYING, LOADING, SMOKE = "fetching", "verifying", "loading", "smoke"
ROUTABLE, COLD, DRAINING, FAILED = "routable", "cold", "draining", "failed"


@dataclass(frozen=True, slots=True)
class Version:
    """A version held by the model.

    `name` (`<task>@<digest>`) and `number` are never used for anything else while the process lives: vLLM keys its
    prefix cache and its equality on the name and its slots on the number. The bare base has number 0 and no path.
    """

    digest: str
    adapter_digest: str
    name: str
    number: int
    path: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one version stands in its life: `resident` is vLLM's own word, `reason` says why it failed."""

    digest: str
    name: str
    number: int
    state: str
    pinned: bool
    resident: bool
    in_flight: int
    reason: str = ""


class Residency:
    """The versions of one engine: routable ones, requests in flight on each, and those that cannot be served."""

    def __init__(self, base_digest: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._used_at: dict[str, float] = {}
        self._routable: dict[str, Version] = {base_digest: Version(base_digest, "", "", 0)}
        self._in_flight: dict[str, int] = {}
        self._last_number = 0
        self._draining: dict[str, Version] = {}
        self.failed: dict[str, str] = {}
        """Version digest -> why it cannot be served."""
        self.cold: dict[str, str] = {}
        """Version digest -> adapter digest: on the disk, verified, loaded when asked for; memory holds others."""
        self._arriving: dict[str, str] = {}
        self.pinned: frozenset[str] = frozenset()
        """Digests whose adapter keeps its slot."""
        self.resident: frozenset[str] = frozenset()
        """Digests whose adapter vLLM says that it holds, as of the last look."""

    @property
    def routable(self) -> tuple[str, ...]:
        """Digests that may be asked for, the base first."""
        return tuple(self._routable)

    @property
    def in_flight(self) -> dict[str, int]:
        """Requests in flight by digest; versions without any are left out."""
        return dict(self._in_flight)

    def next_number(self) -> int:
        """A positive number that no version of this process ever had (below 2**31, as vLLM stores 32 bits)."""
        self._last_number += 1
        return self._last_number

    def used_at(self, digest: str) -> float:
        """When a request last began or ended on a version, by the clock; when it was loaded, where none did."""
        return self._used_at.get(digest, 0.0)

    @contextmanager
    def arrival(self, digest: str) -> Iterator[Callable[[str], None]]:
        """A version on its way in; call what is given with each state that it enters."""
        try:
            yield lambda state: self._arriving.update({digest: state})
        finally:
            self._arriving.pop(digest, None)

    def admit(self, version: Version) -> None:
        """Make a version routable: it is loaded and has answered."""
        self._routable[version.digest] = version
        self._used_at[version.digest] = self._clock()
        self.cold.pop(version.digest, None)
        self.failed.pop(version.digest, None)

    def withdraw(self, digest: str) -> None:
        """Take no new requests for a version; those in flight go on."""
        version = self._routable.pop(digest, None)
        if version is not None:
            self._draining[digest] = version

    def forget(self, digest: str) -> None:
        """A withdrawn version is gone from the engine."""
        self._draining.pop(digest, None)
        self._used_at.pop(digest, None)

    def standings(self) -> list[Standing]:
        """Every version on its way in, served, or on its way out; the base first."""
        known = [(version, ROUTABLE) for version in self._routable.values()]
        known += [(version, DRAINING) for version in self._draining.values()]
        held = [
            Standing(
                version.digest,
                version.name,
                version.number,
                state,
                version.digest in self.pinned,
                version.number == 0 or version.digest in self.resident,
                self._in_flight.get(version.digest, 0),
            )
            for version, state in known
        ]
        away = dict.fromkeys(sorted(self.cold), COLD) | self._arriving
        held += [Standing(digest, "", 0, state, False, False, 0) for digest, state in away.items()]
        return held + [
            Standing(digest, "", 0, FAILED, False, False, 0, why) for digest, why in sorted(self.failed.items())
        ]

    def idle(self, digest: str) -> bool:
        """Whether no request uses the version."""
        return digest not in self._in_flight

    @contextmanager
    def use(self, digest: str) -> Iterator[Version]:
        """Hold a version for one request. Raises FailedPrecondition (`VERSION_NOT_ROUTABLE`) when it cannot be had."""
        version = self._routable.get(digest)
        if version is None:
            why = self.failed.get(digest, "it is not loaded here")
            raise FailedPrecondition(
                f"version {digest} cannot be served: {why}", reason=NOT_ROUTABLE, field="version_digest"
            )
        self._in_flight[digest] = self._in_flight.get(digest, 0) + 1
        self._used_at[digest] = self._clock()
        try:
            yield version
        finally:
            self._used_at[digest] = self._clock()
            left = self._in_flight[digest] - 1
            if left:
                self._in_flight[digest] = left
            else:
                del self._in_flight[digest]
