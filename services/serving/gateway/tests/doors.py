"""The gateway's doors as clients come to them, and what is found behind them."""

import asyncio
from typing import Any

import httpx
import openai

from libs.contracts.inference import Role
from libs.contracts.stubs.pawl.serving.v1 import engine_pb2, engine_pb2_grpc
from libs.contracts.subjects import ROUTES, task_key
from libs.eventing.connection import NatsLink
from libs.eventing.snapshots import read_snapshot
from libs.runtime.grpc_client import channel
from libs.testing.wait import eventually
from services.serving.conftest import Stack

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
CLIENT = {"authorization": "Bearer client-key"}
EVALUATOR = {"authorization": "Bearer evaluator-key"}


def api(stack: Stack, key: str = "client-key") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{stack.http}/v1", api_key=key, max_retries=0)


async def served(stack: Stack, task: str) -> None:
    """Wait until the gateway knows the task's route; engines it waits for by itself."""
    async with httpx.AsyncClient(base_url=stack.http, headers=CLIENT) as http:

        async def known() -> bool:
            return (await http.get(f"/v1/models/{task}")).status_code == 200

        await eventually(known, 20, every=0.05)


async def kept(stack: Stack, task: str) -> None:
    """Wait until gateway and engine have the task's route on disk: they write within a second of serving by it."""
    copies = [stack.gateway.home / "tables" / "routes.json", stack.engine.home / "routes.json"]

    def both() -> bool:
        entries = [read_snapshot(copy, ROUTES) or {} for copy in copies]
        return all(task_key("default", task) in each for each in entries)

    await eventually(both, 20)


async def stored(stack: Stack, stream: str, subject: str) -> list[Any]:
    async def read(link: NatsLink) -> list[Any]:
        found = []
        info = await link.js.stream_info(stream)
        for sequence in range(max(1, info.state.first_seq), info.state.last_seq + 1):
            message = await link.js.get_msg(stream, sequence)
            if message.subject == subject:
                found.append(message)
        return found

    return await stack.linked(read)


async def eventually_on_canary(stack: Stack, digest: str) -> None:
    """Until the engine has the canary, its users get the stable version: that is the rule, and not today's question."""
    opened = channel(stack.engine.address)
    stub: Any = engine_pb2_grpc.EngineServiceStub(opened)

    async def there() -> bool:
        return digest in (await stub.GetEngine(engine_pb2.GetEngineRequest())).routable

    await eventually(there, 30, every=0.1)
    await asyncio.sleep(0.3)  # the report travels
    await opened.close()


async def engine_in_flight(stack: Stack) -> int:
    """Requests that the engine works on."""
    opened = channel(stack.engine.address)
    stub: Any = engine_pb2_grpc.EngineServiceStub(opened)
    state = await stub.GetEngine(engine_pb2.GetEngineRequest(), timeout=30)
    await opened.close()
    return int(sum(state.in_flight.values()))


async def at_length(stack: Stack, task: str) -> None:
    """Let the base answer the task, in up to 480 tokens, and wait until the gateway knows."""
    await stack.put_route(task, stack.arm(0, Role.STABLE, "", 1.0), max_tokens=480)
    async with httpx.AsyncClient(base_url=stack.http, headers=CLIENT) as http:

        async def known() -> bool:
            return bool((await http.get(f"/v1/models/{task}")).json()["pawl"]["version"] == 0)

        await eventually(known, 20)
