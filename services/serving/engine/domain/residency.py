"""Which versions an engine holds and who is using them: nothing is removed under a request."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from libs.contracts.errors import FailedPrecondition

NOT_ROUTABLE = "VERSION_NOT_ROUTABLE"


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


class Residency:
    """The versions of one engine: routable ones, requests in flight on each, and those that cannot be served."""

    def __init__(self, base_digest: str) -> None:
        self._routable: dict[str, Version] = {base_digest: Version(base_digest, "", "", 0)}
        self._in_flight: dict[str, int] = {}
        self._last_number = 0
        self.failed: dict[str, str] = {}
        """Version digest -> why it cannot be served."""

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

    def admit(self, version: Version) -> None:
        """Make a version routable: it is loaded and has answered."""
        self._routable[version.digest] = version
        self.failed.pop(version.digest, None)

    def withdraw(self, digest: str) -> None:
        """Take no new requests for a version; those in flight go on."""
        self._routable.pop(digest, None)

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
        try:
            yield version
        finally:
            left = self._in_flight[digest] - 1
            if left:
                self._in_flight[digest] = left
            else:
                del self._in_flight[digest]
