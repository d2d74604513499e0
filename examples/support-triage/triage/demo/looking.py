"""Looking at a stack whose processes may be dying, and at what a report says between its lines."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx

from libs.contracts.errors import Transient
from libs.statistics.paired import paired_difference
from pawl.client import Connection


async def retried(call: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The answer of a blocking call, asked again while the process that knows is away (it may have been killed)."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await asyncio.to_thread(call)
        except Transient:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.3)


async def trace_behind(connection: Connection, task: str, text: str) -> str:
    """The trace id of the turn that made the version that answers now, as the answer itself tells it."""
    body = {"model": task, "messages": [{"role": "user", "content": text}]}
    headers = {"authorization": f"Bearer {connection.api_key}"}
    async with httpx.AsyncClient(base_url=connection.address("http"), timeout=60.0, trust_env=False) as client:
        answer = (await client.post("/chat/completions", json=body, headers=headers)).raise_for_status()
    return str(answer.json()["pawl"]["turn_trace_id"])


def paired(report: dict[str, Any], arm: str, against: str, without: str) -> dict[str, Any]:
    """The paired difference in exact match on the items outside one category, with its 95 % interval."""
    items = [item for item in report["items"] if item["category"] != without]
    scores = {name: [item["arms"][name]["exact_match"] for item in items] for name in (arm, against)}
    difference = paired_difference(scores[arm], scores[against], [item["group"] for item in items])
    return difference.interval().model_dump()
