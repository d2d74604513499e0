"""`pawl route explain` as an operator types it, before a real gateway."""

import asyncio
import json
import os
import subprocess
import sys

from libs.contracts.inference import Role
from libs.contracts.subjects import RULES
from libs.contracts.task.routing import RoutingRules
from libs.eventing.connection import NatsLink
from libs.eventing.kv import kv_put
from libs.testing.wait import eventually
from services.serving.conftest import Stack
from services.serving.gateway.tests.rig import CLIENT, Rig, arm, query, says


def told(rig: Rig, user: str = "ann") -> str:
    return rig.answering.explain(CLIENT, query(user=user)).reason


def test_a_canary_that_no_engine_has_is_told_with_who_stands_in() -> None:
    rig = Rig(arm(1, Role.STABLE, 0.0), arm(2, Role.CANARY, 1.0))
    assert told(rig).endswith("no engine can serve it now: a request waits for one, and is refused in the end")
    rig.engine("a", says("x"), "d1")
    assert told(rig).endswith("no engine can serve it now: t@1 stands in")
    rig.engine("b", says("x"), "d1", "d2")
    assert told(rig).endswith("below the canary's share of 1: t@2")
    assert rig.answering.explain(CLIENT, query(user="ann")).engines == ("b",)


def test_an_engine_that_would_load_the_version_first_or_makes_vectors_is_told_for_what_it_is() -> None:
    rig = Rig(arm(1, Role.STABLE, 1.0))
    rig.engine("vectors", says("x"), "d1")
    rig.engine("cold", says("x"))
    vectors, cold = rig.tables.reports
    rig.tables.reports = [vectors.model_copy(update={"embeds": True}), cold.model_copy(update={"cold": ("d1",)})]
    assert rig.answering.explain(CLIENT, query()).engines == ("cold",)


async def explained(stack: Stack, *arguments: str) -> str:
    """What is printed, on both streams."""
    told = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", "from pawl.cli import main; main()", "route", "explain", *arguments],
        env={
            **os.environ,
            "PAWL_ENDPOINTS": json.dumps({"grpc": stack.gateway.address}),
            "PAWL_API_KEY": "client-key",
            "COLUMNS": "200",
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    return told.stdout + told.stderr


async def test_an_operator_is_shown_every_rule_that_was_looked_at_and_what_decided(stack: Stack, task: str) -> None:
    rules = RoutingRules.model_validate(
        {
            "tenant": "default",
            "rules": [
                {"name": "lawyers", "when": {"domain": ["legal"]}, "to": "other"},
                {"name": "wards", "when": {"headers": {"X-Product": "ward"}}, "to": f"{task}@0"},
                {"name": "rest", "when": {"task_type": ["classify"]}, "to": task},
            ],
        }
    )

    async def announce(link: NatsLink) -> None:
        await kv_put(link, RULES, "default", rules)

    async def withdraw(link: NatsLink) -> None:
        await kv_put(link, RULES, "default", None)

    await stack.linked(announce)
    try:

        async def known() -> bool:
            return "lawyers" in await explained(stack, "auto", "--task-type", "classify")

        await eventually(known, 60, every=0.5)
        by_type = await explained(stack, "auto", "--task-type", "classify", "--user", "ann")
        by_header = await explained(stack, "auto", "--header", "x-product=ward")
        by_name = await explained(stack, f"{task}@0")
    finally:
        await stack.linked(withdraw)
    assert "domain is '', not 'legal'" in by_type
    assert f"leads to {task}" in by_type
    assert f"{task}@1 ({Role.STABLE.value}" in by_type
    assert f"{task}@0 was asked for by the rule" in by_header
    assert f"{task}@0 was asked for by name" in by_name
