"""Engines on demand: one for each base that a route names, within the stack's memory budget."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from libs.artifacts import ObjectStore
from libs.contracts.errors import PawlError
from libs.contracts.routes import Route
from libs.contracts.subjects import ROUTES
from libs.eventing.connection import NatsLink
from libs.eventing.kv import DesiredState

GIB = 1 << 30
RETIRE_SECONDS = 60.0
"""An engine whose base no route names any more is kept for so long: a route may name it again at once."""
ENGINE_OVERHEAD_BYTES = int(1.5 * GIB)
"""What vLLM takes beside the weights on CPU: interpreter, compiled kernels, its smallest cache."""


@dataclass(slots=True)
class Disuse:
    """Since when routes name a base no more."""

    since: dict[str, float] = field(default_factory=dict)

    def over(self, bases: Iterable[str], named: set[str], now: float) -> list[str]:
        """The bases that no route has named for `RETIRE_SECONDS`; `now` on a monotonic clock.

        None while no route is known at all: a broker that lost its data is no reason to stop what serves.
        """
        unnamed = set(bases) - named if named else set()
        self.since = {base: self.since.get(base, now) for base in unnamed}
        return sorted(base for base, since in self.since.items() if now - since >= RETIRE_SECONDS)


class WatchBases:
    """Tells `changed` the base digests that the routes name, whenever they change; outlives the broker's absence."""

    def __init__(
        self, url: str, password: str, changed: Callable[[set[str]], None], refused: Callable[[], None]
    ) -> None:
        self._changed = changed
        self._link = NatsLink(url, "pawl", user="pawl", password=password, on_closed=refused)
        self._routes = DesiredState(self._link, ROUTES, Route, on_change=self._look)

    async def start(self) -> None:
        """Begin to watch, now or as soon as the broker is there."""
        await self._link.connect(wait=False)
        await self._routes.start()

    async def stop(self) -> None:
        """End watching."""
        await self._routes.stop()
        await self._link.close()

    def _look(self, *_: object) -> None:
        self._changed({arm.base_digest for route in self._routes.values.values() for arm in route.arms})


async def needed_bytes(store: ObjectStore, base_digest: str) -> int:
    """An estimate, in bytes, of what the engine of a base takes: twice its files (host and loaded) and the overhead."""
    try:
        manifest = await store.get_manifest(base_digest)
    except PawlError:
        return ENGINE_OVERHEAD_BYTES
    return 2 * sum(file.size for file in manifest.files.values()) + ENGINE_OVERHEAD_BYTES
