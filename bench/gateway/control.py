"""A registry with tasks that have a stable version and a previous one to roll back to."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from bench.gateway.paced import BASE, VERSIONS
from libs.contracts.ids import new_id
from libs.contracts.task import TaskSpec
from libs.outbox.database import Database
from libs.outbox.migrate import migrate
from libs.telemetry import new_traceparent
from services.registry.domain import applying
from services.registry.domain.decision import Decision
from services.registry.domain.routing import reroute
from services.registry.domain.state import Grounds, Occasion, Status, Task, Version
from services.registry.store import METADATA, Store


def database_url(home: Path) -> str:
    """The registry's file."""
    return f"sqlite+aiosqlite:///{home / 'registry.db'}"


async def seed(home: Path, tasks: list[str]) -> None:
    """Write tasks as they are after two promotions; the registry publishes their routes when it starts."""
    url = database_url(home)
    await migrate(url, "services.registry")
    database = Database(url, metadata=METADATA, service="registry")
    await database.open()
    store = Store(database)
    for name in tasks:
        spec = TaskSpec.model_validate({"task": name, "base": "bench", "output": {"max_tokens": 4096}})
        await store.declare_or(
            "default", name, _occasion(), lambda spec=spec: applying.declare("default", spec, BASE, "bench"), Decision
        )
        await store.decide("default", name, _occasion(), _promoted)
    await database.close()


def _promoted(task: Task) -> Decision:
    older, newer = (
        Version(number, digest, BASE, status, adapter_digest=digest, grounds=Grounds.GATES)
        for number, (digest, status) in enumerate(zip(VERSIONS, (Status.PREVIOUS, Status.STABLE), strict=True), start=1)
    )
    task = task.with_version(0, status=Status.RETIRED)
    return reroute(replace(task, versions=(*task.versions, older, newer)))


def _occasion() -> Occasion:
    return Occasion(new_id("bench"), datetime.now(UTC), new_traceparent())
