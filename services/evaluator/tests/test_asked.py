"""Reports asked for by hand, and what production asks for."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from libs.artifacts import ObjectStore
from libs.contracts.errors import InvalidInput, NotFound
from libs.contracts.events import TaskApplied
from libs.contracts.inference import Role
from libs.contracts.routes import Arm, Route
from libs.contracts.subjects import ROUTES, TASKS, task_key
from libs.eventing.connection import NatsLink
from libs.eventing.kv import kv_put
from libs.testing.wait import eventually
from services.evaluator.clients.lookup import Lookup
from services.evaluator.handlers.asked import AskedFor
from services.evaluator.store.asked import AskedEvaluations
from services.evaluator.store.live_tables import live_requests
from services.evaluator.store.traffic import TrafficMix
from services.evaluator.tests.conftest import Evaluator, House
from services.evaluator.tests.support import ADAPTER, BASE, TASK, TENANT, FakeGateway, put_suite, spec


async def applied(link: NatsLink) -> None:
    task = TaskApplied(tenant=TENANT, task=TASK, revision=1, spec=spec(), base_digest=BASE)
    arms = (
        Arm(version=0, role=Role.STABLE, share=1.0, digest=BASE, base_digest=BASE),
        Arm(version=1, role=Role.CANDIDATE, digest=ADAPTER, base_digest=BASE, adapter_digest=ADAPTER),
    )
    await kv_put(link, TASKS, task_key(TENANT, TASK), task)
    route = Route(tenant=TENANT, task=TASK, generation=1, salt="s", arms=arms)
    await kv_put(link, ROUTES, task_key(TENANT, TASK), route)


def asking(house: House, running: Evaluator, link: NatsLink) -> AskedFor:
    return AskedFor(AskedEvaluations(running.database), running.reports, house.evaluation, Lookup(link), house.objects)


async def test_a_report_asked_for_by_hand_is_made_even_if_the_process_that_took_it_is_gone(
    house: House, link: NatsLink, object_store: ObjectStore, gateway: FakeGateway, tmp_path: Path
) -> None:
    await applied(link)
    running = await house.start()
    asked = asking(house, running, link)
    suite = await put_suite(object_store, tmp_path / "suite", items=50)
    begun = await asked.ask(TENANT, TASK, 1, suite, "", "mine")
    assert (begun.state, begun.version) == ("running", 1)
    assert (await asked.ask(TENANT, TASK, 1, suite, "", "mine")).report_id == "mine"
    held = asyncio.Event()

    async def before(model: str, number: int) -> None:
        del model
        if number >= 20 and not held.is_set():
            await asyncio.sleep(60)

    gateway.before = before
    work = asyncio.create_task(asked.run())
    await eventually(lambda: sum(gateway.calls.values()) >= 25, 20)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    held.set()
    again = asyncio.create_task(asking(house, running, link).run())

    async def done() -> bool:
        return (await running.reports.get("mine")).state == "completed"

    await eventually(done, 30)
    again.cancel()
    await asyncio.gather(again, return_exceptions=True)
    row = await running.reports.get("mine")
    document = json.loads(await object_store.get_bytes(row.report_digest))
    # Fifty items, whatever they show, decide nothing and say how many more would.
    assert row.verdict == "inconclusive"
    assert all("more needed" in gate["reason"] for gate in document["gates"])
    assert sum(count - 1 for count in gateway.calls.values()) <= 24


async def test_what_cannot_be_evaluated_is_refused_when_it_is_asked_for(
    house: House, link: NatsLink, tmp_path: Path
) -> None:
    running = await house.start()
    asked = asking(house, running, link)
    with pytest.raises(NotFound, match="no task 'triage'"):
        await asked.ask(TENANT, TASK, 1, "", "", "")
    await applied(link)
    with pytest.raises(NotFound, match="triage@7 is not in the route; there are triage@0, triage@1"):
        await asked.ask(TENANT, TASK, 7, "", "", "")
    with pytest.raises(InvalidInput, match="name a suite"):
        await asked.ask(TENANT, TASK, 1, "", "", "")
    with pytest.raises(InvalidInput, match=r"evaluation\.gates\.0\.margin"):
        await asked.ask(TENANT, TASK, 1, "sha256:x", '{"gates": [{"name": "g", "kind": "floor", "margin": 7}]}', "")


async def test_the_mix_of_traffic_is_known_only_from_enough_of_it(house: House) -> None:
    running = await house.start()
    mix = TrafficMix(running.database)

    async def add(count: int, category: str | None, start: int) -> None:
        rows: list[dict[str, Any]] = [
            {
                "tenant": TENANT, "task": TASK, "request_id": f"r{start + n}", "role": "stable", "sequence": start + n,
                "version": 0, "generation": 1, "explicit": False, "unit": "u", "answer_digest": "d", "failed": False,
                "whole": True, "refused": False, "latency_ms": 1.0, "first_token_ms": 1.0, "prompt_tokens": 1,
                "completion_tokens": 1, "input_chars": 1, "output_chars": 1, "language": "en", "category": category,
                "sketch": b"", "answered_at": time.time(),
            }
            for n in range(count)
        ]  # fmt: skip
        async with running.database.transaction() as session:
            await session.execute(insert(live_requests), rows)

    await add(150, "c0", 0)
    assert await mix.shares(TENANT, TASK, 0.0) == {}
    await add(50, "c1", 150)
    await add(50, None, 200)
    assert await mix.shares(TENANT, TASK, 0.0) == {"c0": 0.75, "c1": 0.25}
    assert await mix.shares(TENANT, TASK, time.time() + 60) == {}
