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
