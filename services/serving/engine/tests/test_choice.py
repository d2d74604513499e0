"""Which base an engine takes when it is told to find one."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest_asyncio

from libs.contracts.inference import Role
from libs.contracts.routes import Arm, EngineReport, Route
from libs.contracts.subjects import ENGINES, ROUTES, task_key
from libs.eventing.apply import apply
from libs.eventing.connection import NatsLink
from libs.eventing.kv import kv_put
from libs.testing.servers import NatsServer
from services.serving.engine.clients import BaseChoice
from services.serving.engine.domain import next_base, yields_to

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def route(task: str, *bases: str, tenant: str = "default") -> Route:
    arms = tuple(
        Arm(version=number, role=Role.STABLE, digest=base, base_digest=base) for number, base in enumerate(bases)
    )
    return Route(tenant=tenant, task=task, generation=1, salt="s", arms=arms)


def report(engine: str, base: str, late: float = 0.0) -> EngineReport:
    at = NOW + timedelta(seconds=late)
    return EngineReport(engine_id=engine, address="x:1", base_digest=base, started_at=at, beat_at=at)


def choice(server: NatsServer, home: Path, engine: str, *, patience: float = 300.0) -> BaseChoice:
    return BaseChoice(
        link=NatsLink(server.url, "engine", on_closed=lambda: None),
        engine_id=engine,
        address="127.0.0.1:1",
        tenant="default",
        memory=home / engine / "base.json",
        patience=patience,
        settle=1.0,
    )


@pytest_asyncio.fixture
async def link(private_nats: NatsServer) -> AsyncIterator[NatsLink]:
    made = NatsLink(private_nats.url, "test", on_closed=lambda: None)
    await made.connect()
    await apply(made.js)
    yield made
    await made.close()


async def put(link: NatsLink, named: Route) -> None:
    await kv_put(link, ROUTES, task_key(named.tenant, named.task), named)


def test_the_first_base_nobody_has_taken_is_next() -> None:
    routes = [route("b", B), route("a", A)]
    assert next_base(routes, set(), tenant="default") == A
    assert next_base(routes, {A}, tenant="default") == B
    assert next_base(routes, {A, B}, tenant="default") is None


def test_another_tenants_base_is_left_alone() -> None:
    assert next_base([route("a", A, tenant="other")], set(), tenant="default") is None


def test_of_two_claims_exactly_one_yields() -> None:
    first, second, same = report("x", A), report("w", A, late=1.0), report("y", A)
    assert yields_to(second, [first, second])
    assert not yields_to(first, [first, second])
    assert yields_to(same, [first, same])
    assert not yields_to(first, [report("w", B)])


async def test_an_engine_waits_for_a_route_and_then_for_nobody(
    private_nats: NatsServer, link: NatsLink, tmp_path: Path
) -> None:
    waiting = asyncio.create_task(choice(private_nats, tmp_path, "engine").base())
    await asyncio.sleep(1.0)
    assert not waiting.done()
    await put(link, route("task", A))
    assert await waiting == A
    await link.close()
    private_nats.stop()
    assert await choice(private_nats, tmp_path, "engine").base() == A


async def test_a_base_that_another_engine_serves_is_left_to_it(
    private_nats: NatsServer, link: NatsLink, tmp_path: Path
) -> None:
    await put(link, route("task", A, B))
    await kv_put(link, ENGINES, "other", report("other", A))
    assert await choice(private_nats, tmp_path, "engine").base() == B


async def test_an_engines_own_old_report_does_not_keep_it_from_its_base(
    private_nats: NatsServer, link: NatsLink, tmp_path: Path
) -> None:
    await put(link, route("task", A))
    await kv_put(link, ENGINES, "engine", report("engine", A))
    assert await choice(private_nats, tmp_path, "engine").base() == A


async def test_engines_that_start_together_take_a_base_each(
    private_nats: NatsServer, link: NatsLink, tmp_path: Path
) -> None:
    both = [asyncio.create_task(choice(private_nats, tmp_path, name).base()) for name in ("one", "two")]
    await asyncio.sleep(0.5)
    await put(link, route("first", A))
    await put(link, route("second", B))
    assert sorted(await asyncio.gather(*both)) == [A, B]


async def test_a_base_that_no_route_names_any_more_is_forgotten_but_not_for_a_moment_or_for_want_of_knowledge(
    private_nats: NatsServer, link: NatsLink, tmp_path: Path
) -> None:
    await put(link, route("task", A))
    chosen = choice(private_nats, tmp_path, "engine")
    assert await chosen.base() == A
    now = 0.0
    seen = iter([True, False, True, None, False, None, False, False])

    def named() -> bool | None:
        nonlocal now
        now += 60.0
        return next(seen)

    chosen.clock = lambda: now
    await chosen.left_behind(named, 150.0, every=0.0)
    assert next(seen, "all") == "all"
    await put(link, route("task", B))
    assert await choice(private_nats, tmp_path, "engine").base() == B


async def test_a_memory_that_cannot_be_believed_is_chosen_anew(
    private_nats: NatsServer, link: NatsLink, tmp_path: Path
) -> None:
    await put(link, route("task", A))
    wrong = choice(private_nats, tmp_path, "engine")
    wrong.memory.parent.mkdir()
    wrong.memory.write_text("{}")
    assert await wrong.base() == A
