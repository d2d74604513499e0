"""The engine follows the routes: load what they want, prove it, report it, and let go of what they want no more."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from libs.contracts.errors import PawlError, Permanent, Transient
from libs.contracts.routes import EngineReport, Route
from libs.contracts.subjects import ENGINES
from libs.eventing.connection import NatsLink
from libs.eventing.kv import DesiredState, kv_put
from libs.telemetry import gauge, get_logger, span
from services.serving.engine.domain import Prompt, Residency, Version, Wanted, choose_pins, wanted_versions

log = get_logger(__name__)

_POLL_SECONDS = 0.5
_NO_ROOM = "NO_ROOM"
_BACKOFF_SECONDS = (1.0, 2.0, 5.0, 10.0, 15.0)


class AdapterHost(Protocol):
    """The model, as far as adapters go."""

    async def add(self, version: Version) -> None:
        """Load."""

    async def pin(self, version: Version) -> None:
        """Keep in its slot."""

    async def remove(self, version: Version) -> None:
        """Unload."""

    async def resident(self) -> set[int]:
        """Numbers of the adapters held right now."""

    async def smoke(self, version: Version, prompt: Prompt) -> None:
        """Answer one short prompt with it, or raise."""


class AdapterShelf(Protocol):
    """Adapters on local disk."""

    async def adapter(self, digest: str, tenant: str) -> Path:
        """Fetch and verify."""

    async def discard(self, digest: str) -> None:
        """Delete."""


@dataclass(slots=True)
class _Held:
    version: Version
    pinned: bool = False
    unwanted_since: float | None = None
    withdrawn: bool = False


@dataclass(slots=True)
class _Delay:
    until: float = 0.0
    attempts: int = 0


@dataclass(slots=True)
class Reconciler:
    """Brings what the model holds in line with what the routes want, one operation at a time.

    `inspect` raises InvalidInput for an adapter directory that must not be loaded; `retire_after` is in seconds.
    """

    base_digest: str
    routes: Callable[[], Iterable[Route]]
    host: AdapterHost
    shelf: AdapterShelf
    residency: Residency
    inspect: Callable[[Path], None]
    smoke_prompt: Prompt
    max_loras: int
    max_adapters: int
    retire_after: float
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    reported: asyncio.Event = field(default_factory=asyncio.Event)
    settled: bool = False
    _held: dict[str, _Held] = field(default_factory=dict)
    _delays: dict[str, _Delay] = field(default_factory=dict)

    async def run(self) -> None:
        """Reconcile on every change of the routes and on a slow beat; never returns."""
        while True:
            self.changed.clear()
            await self.reconcile()
            self.settled = True
            try:
                async with asyncio.timeout(_POLL_SECONDS):
                    await self.changed.wait()
            except TimeoutError:
                continue

    async def reconcile(self) -> None:
        """One pass. What cannot be served is noted in the residency's `failed` and hinders nothing else."""
        wanted = wanted_versions(self.routes(), self.base_digest)
        servable = [each for each in wanted if not self._refused(each.digest)]
        for each in servable[: self.max_adapters]:
            held = self._held.get(each.digest)
            if held is not None and held.withdrawn:
                continue  # it is on its way out; the next pass after that brings it back
            if held is not None:
                held.unwanted_since = None
            elif not self._delayed(each.digest):
                await self._try_load(each)
        for each in servable[self.max_adapters :]:
            if each.digest not in self._held:
                self._fail(each.digest, f"{_NO_ROOM}: this engine holds {self.max_adapters} adapters")
        await self._pin(wanted)
        await self._retire({each.digest for each in wanted})
        await self._look()
        gauge("engine_adapters", "Adapters that may be asked for.").set(len(self.residency.routable) - 1)

    async def _look(self) -> None:
        """Note what vLLM really holds: beyond its memory's limit it drops adapters without a word."""
        if not self._held:
            self.residency.resident = self.residency.pinned = frozenset()
            return
        numbers = await self.host.resident()
        resident = frozenset(digest for digest, held in self._held.items() if held.version.number in numbers)
        self.residency.pinned = frozenset(digest for digest, held in self._held.items() if held.pinned)
        if resident != self.residency.resident:
            self.residency.resident = resident
            self.reported.set()

    def _refused(self, digest: str) -> bool:
        why = self.residency.failed.get(digest)
        return why is not None and not why.startswith(_NO_ROOM)

    def _delayed(self, digest: str) -> bool:
        delay = self._delays.get(digest)
        return delay is not None and time.monotonic() < delay.until

    def _fail(self, digest: str, why: str) -> None:
        if self.residency.failed.get(digest) != why:
            log.error("version cannot be served", digest=digest, why=why)
            self.residency.failed[digest] = why
            self.reported.set()

    async def _try_load(self, wanted: Wanted) -> None:
        with span("engine load adapter", digest=wanted.digest, task=wanted.task):
            began = time.perf_counter()
            try:
                await self._load(wanted)
            except Permanent as failure:
                self._fail(wanted.digest, f"{failure.reason}: {failure.message}")
            except Transient as failure:
                delay = self._delays.setdefault(wanted.digest, _Delay())
                pause = _BACKOFF_SECONDS[min(delay.attempts, len(_BACKOFF_SECONDS) - 1)]
                delay.attempts += 1
                delay.until = time.monotonic() + pause
                log.warning("version not loaded yet", digest=wanted.digest, why=str(failure), again_in=pause)
            else:
                self._delays.pop(wanted.digest, None)
                seconds = round(time.perf_counter() - began, 3)
                log.info("version routable", digest=wanted.digest, task=wanted.task, seconds=seconds)

    async def _load(self, wanted: Wanted) -> None:
        place = await self.shelf.adapter(wanted.adapter_digest, wanted.tenant)
        await asyncio.to_thread(self.inspect, place)
        version = Version(
            wanted.digest,
            wanted.adapter_digest,
            f"{wanted.task}@{wanted.digest}",
            self.residency.next_number(),
            str(place),
        )
        await self.host.add(version)
        try:
            await self.host.smoke(version, self.smoke_prompt)
        except PawlError:
            await self.host.remove(version)
            raise
        self._held[wanted.digest] = _Held(version)
        self.residency.admit(version)
        self.reported.set()

    async def _pin(self, wanted: list[Wanted]) -> None:
        pinned = {digest: held.pinned for digest, held in self._held.items() if not held.withdrawn}
        for digest in choose_pins(wanted, pinned, max_loras=self.max_loras):
            held = self._held[digest]
            try:
                await self.host.pin(held.version)
            except PawlError as failure:
                log.warning("version not pinned", digest=digest, why=str(failure))
                return
            held.pinned = True

    async def _retire(self, wanted: set[str]) -> None:
        now = time.monotonic()
        for digest, held in list(self._held.items()):
            if digest in wanted and not held.withdrawn:
                continue
            if held.unwanted_since is None:
                held.unwanted_since = now
            if not held.withdrawn and now - held.unwanted_since >= self.retire_after:
                held.withdrawn = True
                self.residency.withdraw(digest)
                self.reported.set()
            if held.withdrawn and self.residency.idle(digest):
                await self.host.remove(held.version)
                del self._held[digest]
                self.residency.forget(digest)
                if not any(
                    other.version.adapter_digest == held.version.adapter_digest for other in self._held.values()
                ):
                    await self.shelf.discard(held.version.adapter_digest)
                log.info("version let go", digest=digest)
        for digest in [each for each in self.residency.failed if each not in wanted]:
            del self.residency.failed[digest]


@dataclass(slots=True)
class Beat:
    """Reports what this engine can serve, every few seconds and at once when that changes."""

    link: NatsLink
    engine_id: str
    address: str
    base_digest: str
    tokenizer_digest: str
    template_digest: str
    max_adapters: int
    max_model_len: int
    residency: Residency
    changed: asyncio.Event
    seconds: float
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    withdrawn: bool = False

    def report(self) -> EngineReport:
        """The report as of now."""
        return EngineReport(
            engine_id=self.engine_id,
            address=self.address,
            base_digest=self.base_digest,
            tokenizer_digest=self.tokenizer_digest,
            template_digest=self.template_digest,
            routable=self.residency.routable,
            resident=tuple(sorted(self.residency.resident)),
            failed=dict(self.residency.failed),
            max_adapters=self.max_adapters,
            max_model_len=self.max_model_len,
            started_at=self.started_at,
            beat_at=datetime.now(UTC),
        )

    async def run(self) -> None:
        """Beat; never returns. A broker that is away is waited for, serving goes on meanwhile."""
        while True:
            self.changed.clear()
            if self.link.connected and not self.withdrawn:
                try:
                    await kv_put(self.link, ENGINES, self.engine_id, self.report())
                except PawlError as failure:
                    log.warning("engine report not written", why=str(failure))
            try:
                async with asyncio.timeout(self.seconds if self.link.connected else _POLL_SECONDS):
                    await self.changed.wait()
            except TimeoutError:
                continue

    async def withdraw(self) -> None:
        """Take the report back for good: gateways stop coming here at once."""
        self.withdrawn = True
        if self.link.connected:
            try:
                await kv_put(self.link, ENGINES, self.engine_id, None)
            except PawlError as failure:
                log.warning("engine report not withdrawn", why=str(failure))


def follow(routes: DesiredState[Route], reconciler: Reconciler) -> Callable[[str, Route | None], None]:
    """A listener that wakes the reconciler; an older generation of a route is logged, the state itself keeps order."""

    def changed(key: str, route: Route | None) -> None:
        log.info("route changed", task=key, generation=route.generation if route else None, tasks=len(routes.values))
        reconciler.changed.set()

    return changed
