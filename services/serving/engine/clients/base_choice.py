"""Finds a base for an engine that was told none: one that a route names and no other engine serves."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from libs.contracts.errors import DataLoss, Transient
from libs.contracts.routes import EngineReport, Route
from libs.contracts.subjects import ENGINES, ROUTES
from libs.eventing.connection import NatsLink
from libs.eventing.kv import DesiredState, kv_put
from libs.eventing.snapshots import read_snapshot, write_snapshot
from libs.telemetry import get_logger
from services.serving.engine.domain import next_base, yields_to

log = get_logger(__name__)

_MEMORY = "base"
_LOOK_SECONDS = 0.5
_SETTLE_SECONDS = 1.5
# A claim leaves the bucket before a large base is loaded; whoever saw it leaves that base alone for so long.
_PATIENCE_SECONDS = 300.0


@dataclass(slots=True)
class BaseChoice:
    """Chooses once and remembers on disk, so that a restart asks nobody.

    Args:
        link: A link of the choice's own, not connected yet.
        engine_id: This engine's key among the engines.
        address: The `host:port` that its reports will name.
        tenant: Whose routes count.
        memory: File that holds the choice.
    """

    link: NatsLink
    engine_id: str
    address: str
    tenant: str
    memory: Path
    patience: float = _PATIENCE_SECONDS
    settle: float = _SETTLE_SECONDS
    clock: Callable[[], float] = time.monotonic
    _seen: dict[str, float] = field(default_factory=dict)

    async def base(self) -> str:
        """The digest of the base to serve; waits until a route names one that no other engine serves."""
        remembered = await asyncio.to_thread(self._remembered)
        if remembered is not None:
            log.info("base remembered", digest=remembered)
            return remembered
        routes: DesiredState[Route] = DesiredState(self.link, ROUTES, Route)
        reports: DesiredState[EngineReport] = DesiredState(self.link, ENGINES, EngineReport)
        await self.link.connect(wait=False)
        try:
            await routes.start()
            await reports.start()
            chosen = await self._choose(routes, reports)
        finally:
            await routes.stop()
            await reports.stop()
            await self.link.close()
        await asyncio.to_thread(write_snapshot, self.memory, _MEMORY, {_MEMORY: {"digest": chosen}})
        log.info("base chosen", digest=chosen)
        return chosen

    async def left_behind(self, named: Callable[[], bool | None], seconds: float, every: float = 5.0) -> None:
        """Return once no route has named the base for so long, with the choice forgotten; `named` says None while it
        is not known.
        """
        since: float | None = None
        while since is None or self.clock() - since < seconds:
            await asyncio.sleep(every)
            is_named = named()
            if is_named is not None:
                since = None if is_named else since if since is not None else self.clock()
        await asyncio.to_thread(self.memory.unlink, missing_ok=True)

    async def _choose(self, routes: DesiredState[Route], reports: DesiredState[EngineReport]) -> str:
        log.info("waiting for a route that names a base nobody serves")
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if not routes.live or not reports.live:
                continue
            found = next_base(routes.values.values(), self._taken(reports.values), tenant=self.tenant)
            if found is not None and await self._claim(found, reports):
                return found

    def _taken(self, reports: Mapping[str, EngineReport]) -> set[str]:
        now = self.clock()
        self._seen |= {each.base_digest: now for key, each in reports.items() if key != self.engine_id}
        return {digest for digest, at in self._seen.items() if now - at < self.patience}

    async def _claim(self, digest: str, reports: DesiredState[EngineReport]) -> bool:
        now = datetime.now(UTC)
        mine = EngineReport(
            engine_id=self.engine_id, address=self.address, base_digest=digest, started_at=now, beat_at=now
        )
        try:
            await kv_put(self.link, ENGINES, self.engine_id, mine)
            # Engines that looked at the same moment see one another's claims now; all but one step back.
            await asyncio.sleep(self.settle)
            if not yields_to(mine, reports.values.values()):
                return True
            await kv_put(self.link, ENGINES, self.engine_id, None)
        except Transient as failure:
            log.warning("base not claimed yet", digest=digest, why=str(failure))
        return False

    def _remembered(self) -> str | None:
        try:
            held = read_snapshot(self.memory, _MEMORY)
        except DataLoss as failure:
            log.error("remembered base not usable, choosing again", why=str(failure))
            return None
        return None if held is None else str(held[_MEMORY]["digest"])
