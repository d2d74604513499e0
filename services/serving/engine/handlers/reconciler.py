"""The engine follows the routes: load what they want, prove it, report it, and let go of what they want no more."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from libs.contracts.errors import Busy, PawlError, Permanent, Transient
from libs.contracts.routes import Route
from libs.eventing.kv import DesiredState
from libs.telemetry import gauge, get_logger, span
from services.serving.engine.domain import (
    FETCHING,
    LOADING,
    SMOKE,
    VERIFYING,
    ColdBudget,
    Occupant,
    Prompt,
    Residency,
    Version,
    Wanted,
    choose_pins,
    choose_unpin,
    wanted_versions,
    who_leaves,
)

log = get_logger(__name__)

_POLL_SECONDS = 0.5
_BACKOFF_SECONDS = (1.0, 2.0, 5.0, 10.0, 15.0)


class AdapterHost(Protocol):
    """The model, as far as adapters go."""

    async def add(self, version: Version) -> None:
        """Load."""

    async def pin(self, version: Version) -> bool:
        """Keep in its slot; False where it has to be tried again."""

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
    wanted: Wanted
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

    The weightiest versions are loaded before anybody asks, as many as memory holds; the others are fetched and
    verified, and loaded when they are asked for, in the place of one that nobody uses. `inspect` raises InvalidInput
    for an adapter directory that must not be loaded; `retire_after` is in seconds.
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
    budget: ColdBudget = field(default_factory=lambda: ColdBudget(60))
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    reported: asyncio.Event = field(default_factory=asyncio.Event)
    settled: bool = False
    _held: dict[str, _Held] = field(default_factory=dict)
    _delays: dict[str, _Delay] = field(default_factory=dict)
    _asked: dict[str, asyncio.Future[None]] = field(default_factory=dict)

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

    async def warm(self, digest: str) -> None:
        """Have a cold version loaded and wait for it; returns at once for any other.

        Raises Busy where every adapter in memory is in use or too many were loaded within a minute.
        """
        if digest not in self.residency.cold:
            return
        asked = self._asked.get(digest)
        if asked is None:
            asked = self._asked[digest] = asyncio.get_running_loop().create_future()
            self.changed.set()
        await asyncio.shield(asked)

    async def reconcile(self) -> None:
        """One pass. What cannot be served is noted in the residency's `failed` and hinders nothing else."""
        wanted = wanted_versions(self.routes(), self.base_digest)
        servable = [each for each in wanted if each.digest not in self.residency.failed]
        for each in servable:
            held = self._held.get(each.digest)
            if held is not None:
                # One on its way out goes first; the next pass after that brings it back.
                held.wanted = each
                held.unwanted_since = held.unwanted_since if held.withdrawn else None
            elif not self._delayed(each.digest):
                await self._bring(each)
        await self._serve_asked({each.digest: each for each in servable})
        await self._pin(servable)
        await self._retire({each.digest: each for each in wanted})
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

    def _delayed(self, digest: str) -> bool:
        delay = self._delays.get(digest)
        return delay is not None and time.monotonic() < delay.until

    def _fail(self, digest: str, why: str) -> None:
        if self.residency.failed.get(digest) != why:
            log.error("version cannot be served", digest=digest, why=why)
            self.residency.failed[digest] = why
            self.residency.cold.pop(digest, None)
            self.reported.set()

    async def _bring(self, wanted: Wanted) -> None:
        """Into memory where there is room; onto the disk otherwise."""
        room = len(self._held) < self.max_adapters
        if not room and wanted.digest in self.residency.cold:
            return
        with span("engine load adapter", digest=wanted.digest, task=wanted.task):
            began = time.perf_counter()
            try:
                await (self._load(wanted) if room else self._shelve(wanted))
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
                what = "version routable" if room else "version at hand"
                log.info(what, digest=wanted.digest, task=wanted.task, seconds=seconds)

    async def _verified(self, wanted: Wanted, enter: Callable[[str], None]) -> Path:
        enter(FETCHING)
        place = await self.shelf.adapter(wanted.adapter_digest, wanted.tenant)
        enter(VERIFYING)
        await asyncio.to_thread(self.inspect, place)
        return place

    async def _shelve(self, wanted: Wanted) -> None:
        with self.residency.arrival(wanted.digest) as enter:
            await self._verified(wanted, enter)
        self.residency.cold[wanted.digest] = wanted.adapter_digest
        self.reported.set()

    async def _load(self, wanted: Wanted) -> None:
        with self.residency.arrival(wanted.digest) as enter:
            place = await self._verified(wanted, enter)
            name = f"{wanted.task}@{wanted.digest}"
            version = Version(wanted.digest, wanted.adapter_digest, name, self.residency.next_number(), str(place))
            enter(LOADING)
            await self.host.add(version)
            try:
                enter(SMOKE)
                await self.host.smoke(version, self.smoke_prompt)
            except PawlError:
                await self.host.remove(version)
                raise
        self._held[wanted.digest] = _Held(version, wanted)
        self.residency.admit(version)
        self.reported.set()

    async def _serve_asked(self, servable: dict[str, Wanted]) -> None:
        """Load what was asked for, each in the place of a version that nobody uses."""
        for digest, asked in list(self._asked.items()):
            try:
                if digest in self.residency.cold and digest in servable:
                    await self._make_room()
                    await self._load(servable[digest])
            except PawlError as failure:
                if isinstance(failure, Permanent):
                    self._fail(digest, f"{failure.reason}: {failure.message}")
                if not asked.done():
                    asked.set_exception(failure)
                    asked.exception()  # whoever asked may have hung up
            else:
                if not asked.done():
                    asked.set_result(None)
            finally:
                del self._asked[digest]

    async def _make_room(self) -> None:
        self.budget.spend(time.monotonic())
        if len(self._held) < self.max_adapters:
            return
        leaving = who_leaves(
            Occupant(digest, held.wanted.role, held.pinned, self.residency.idle(digest), self.residency.used_at(digest))
            for digest, held in self._held.items()
        )
        if leaving is None:
            raise Busy("every adapter in memory is in use", reason="NO_ROOM", retry_after=1)
        await self._cool(leaving)

    async def _cool(self, digest: str) -> None:
        """Out of memory; the files stay."""
        held = self._held.pop(digest)
        self.residency.withdraw(digest)
        self.residency.cold[digest] = held.version.adapter_digest
        self.reported.set()
        await self.host.remove(held.version)
        self.residency.forget(digest)
        log.info("version cold", digest=digest)

    async def _pin(self, wanted: list[Wanted]) -> None:
        pinned = {digest: held.pinned for digest, held in self._held.items() if not held.withdrawn}
        too_many = choose_unpin(wanted, pinned, max_loras=self.max_loras)
        if too_many is not None and self.residency.idle(too_many):
            await self._cool(too_many)  # vLLM forgets a pin with the adapter only; the next pass loads it again
            return
        for digest in choose_pins(wanted, pinned, max_loras=self.max_loras):
            held = self._held[digest]
            try:
                if not await self.host.pin(held.version):
                    return
            except PawlError as failure:
                log.warning("version not pinned", digest=digest, why=str(failure))
                return
            held.pinned = True

    async def _retire(self, wanted: dict[str, Wanted]) -> None:
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
                await self._discard(held.version.adapter_digest, wanted)
                log.info("version let go", digest=digest)
        for digest in self.residency.cold.keys() - wanted.keys():
            await self._discard(self.residency.cold.pop(digest), wanted)
        for digest in [each for each in self.residency.failed if each not in wanted]:
            del self.residency.failed[digest]

    async def _discard(self, adapter_digest: str, wanted: dict[str, Wanted]) -> None:
        held = {each.version.adapter_digest for each in self._held.values()}
        if adapter_digest not in held | {each.adapter_digest for each in wanted.values()}:
            await self.shelf.discard(adapter_digest)


def follow(routes: DesiredState[Route], reconciler: Reconciler) -> Callable[[str, Route | None], None]:
    """A listener that wakes the reconciler; an older generation of a route is logged, the state itself keeps order."""

    def changed(key: str, route: Route | None) -> None:
        log.info("route changed", task=key, generation=route.generation if route else None, tasks=len(routes.values))
        reconciler.changed.set()

    return changed
