"""Routes, engines and keys: live while the broker is there, from local disk while it is not."""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path

from libs.contracts.errors import NotFound, Unauthenticated, Unavailable
from libs.contracts.routes import ApiKey, EngineReport, Route
from libs.contracts.subjects import ENGINES, KEYS, ROUTES, RULES, task_key
from libs.contracts.task.routing import RoutingRule, RoutingRules
from libs.eventing.connection import NatsLink
from libs.eventing.kv import DesiredState
from services.serving.gateway.domain import Caller


class LocalTables:
    """The buckets that a gateway answers from."""

    def __init__(self, link: NatsLink, directory: Path, outside: Sequence[EngineReport] = ()) -> None:
        """Copies are kept under `directory`. `outside` are engines that report to nobody."""
        self._outside = tuple(outside)
        self._routes = DesiredState(link, ROUTES, Route, directory / "routes.json")
        self._engines = DesiredState(link, ENGINES, EngineReport, directory / "engines.json")
        self._keys = DesiredState(link, KEYS, ApiKey, directory / "keys.json")
        self._rules = DesiredState(link, RULES, RoutingRules, directory / "rules.json")

    async def start(self) -> None:
        """Read the copies and begin to follow the buckets."""
        for state in (self._routes, self._engines, self._keys, self._rules):
            await state.start()

    async def stop(self) -> None:
        """Stop following."""
        for state in (self._routes, self._engines, self._keys, self._rules):
            await state.stop()

    def check(self) -> str | None:
        """Readiness: None once each table was read, from the broker or from disk."""
        return self._routes.check() or self._engines.check() or self._keys.check()

    def route(self, tenant: str, task: str) -> Route:
        """The route of a task. Raises NotFound, or Unavailable when nothing is known yet."""
        route = self._routes.values.get(task_key(tenant, task))
        if route is None:
            self._known(self._routes)
            raise NotFound(f"there is no model {task!r}", reason="MODEL_NOT_FOUND", field="model")
        return route

    def routes(self, tenant: str) -> list[Route]:
        """All routes of a tenant, by task."""
        self._known(self._routes)
        return sorted((each for each in self._routes.values.values() if each.tenant == tenant), key=lambda r: r.task)

    def every_route(self) -> list[Route]:
        """The routes of all tenants."""
        return list(self._routes.values.values())

    def rules(self, tenant: str) -> Sequence[RoutingRule]:
        """The operator's rules of a tenant, in order; none until they are known, as before there were any."""
        held = self._rules.values.get(tenant)
        return held.rules if held is not None else ()

    def engines(self) -> Sequence[EngineReport]:
        """All engines that reported."""
        return [*self._engines.values.values(), *self._outside]

    def caller(self, authorization: str) -> Caller:
        """The caller behind `Bearer <key>`. Raises Unauthenticated, or Unavailable when no keys are known yet."""
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise Unauthenticated("no API key: send 'Authorization: Bearer <key>'", reason="KEY_MISSING")
        key = self._keys.values.get(hashlib.sha256(secret.strip().encode()).hexdigest())
        if key is None:
            self._known(self._keys)
            raise Unauthenticated("unknown API key", reason="KEY_UNKNOWN")
        return Caller.of(key)

    async def wait_for_engines(self, seconds: float) -> None:
        """Return when an engine reports something new, or after so many seconds."""
        try:
            async with asyncio.timeout(seconds), self._engines.changed:
                await self._engines.changed.wait()
        except TimeoutError:
            return

    def _known(self, state: DesiredState[Route] | DesiredState[ApiKey]) -> None:
        trouble = state.check()
        if trouble is not None:
            raise Unavailable(f"nothing is known yet: {trouble}", reason="NOT_READY")
