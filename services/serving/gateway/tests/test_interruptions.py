"""Clients that hang up, routes that flip, processes that are gone: before a real engine."""

import asyncio
import json
import signal
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from libs.contracts.inference import Role
from libs.contracts.subjects import INFERENCE
from libs.testing.servers import free_port
from libs.testing.wait import eventually
from services.serving.conftest import Service, Stack
from services.serving.gateway.tests.doors import (
    CLIENT,
    HELLO,
    api,
    at_length,
    engine_in_flight,
    eventually_on_canary,
    kept,
    served,
    stored,
)


def children(service: Service) -> list[psutil.Process]:
    assert service.process is not None
    return list(psutil.Process(service.process.pid).children(recursive=True))


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_hangs_up_frees_the_engine(stack: Stack, task: str, stream: bool) -> None:
    await at_length(stack, task)
    async with httpx.AsyncClient(base_url=stack.http, headers=CLIENT, timeout=60) as http:
        # They never end by themselves before their time: the token that would end them is out of reach.
        body = {
            "model": task,
            "messages": HELLO,
            "max_tokens": 480,
            "stream": stream,
            "logit_bias": {"2": -100},
            "n": 8,
            "temperature": 1.0,
        }
        asking = asyncio.create_task(http.post("/v1/chat/completions", json=body))

        async def busy() -> bool:
            return await engine_in_flight(stack) > 0

        await eventually(busy, 30)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    async def idle() -> bool:
        return await engine_in_flight(stack) == 0

    await eventually(idle, 30)


async def test_a_deadline_of_the_clients_own_ends_the_answer_and_frees_the_engine(stack: Stack, task: str) -> None:
    async with httpx.AsyncClient(base_url=stack.http, headers=CLIENT, timeout=60) as http:
        body = {"model": task, "messages": HELLO, "max_tokens": 16}
        late = await http.post("/v1/chat/completions", json=body, headers={"x-pawl-timeout": "0.001"})
        odd = await http.post("/v1/chat/completions", json=body, headers={"x-pawl-timeout": "soon"})
    assert late.status_code == 503
    assert "retry-after" in late.headers
    assert odd.json()["error"]["param"] == "x-pawl-timeout"

    async def idle() -> bool:
        return await engine_in_flight(stack) == 0

    await eventually(idle, 30)


async def test_a_flip_reaches_every_gateway_and_streams_end_where_they_began(
    stack: Stack, fresh_task: str, tmp_path: Path
) -> None:
    old, new = await stack.adapter("flip-old", 91), await stack.adapter("flip-new", 92)
    both = (stack.arm(1, Role.STABLE, old, 1.0), stack.arm(2, Role.CANDIDATE, new))
    await stack.put_route(fresh_task, *both, max_tokens=200)
    await served(stack, fresh_task)
    await eventually_on_canary(stack, new)
    second = Service("services.serving.gateway", tmp_path / "second", {**stack.gateway.environment})
    second.environment |= {"PAWL_GATEWAY_HTTP_PORT": str(free_port())}
    second.start()
    try:
        await asyncio.to_thread(second.wait_ready)
        doors = [stack.http, f"http://127.0.0.1:{second.environment['PAWL_GATEWAY_HTTP_PORT']}"]
        clients = [openai.AsyncOpenAI(base_url=f"{door}/v1", api_key="client-key", max_retries=0) for door in doors]
        streams = [
            await client.chat.completions.create(model=fresh_task, messages=HELLO, max_tokens=200, stream=True)
            for client in clients
        ]
        firsts = [await anext(aiter(stream)) for stream in streams]
        await stack.put_route(
            fresh_task, stack.arm(2, Role.STABLE, new, 1.0), stack.arm(1, Role.PREVIOUS, old), max_tokens=200
        )
        for client in clients:

            async def flipped(client: openai.AsyncOpenAI = client) -> bool:
                answer = await client.chat.completions.create(model=fresh_task, messages=HELLO, max_tokens=1)
                return str(answer.model) == f"{fresh_task}@2"

            await eventually(flipped, 30)
        for first, stream in zip(firsts, streams, strict=True):
            assert {first.model, *[chunk.model async for chunk in stream]} == {f"{fresh_task}@1"}
        for client in clients:
            await client.close()
    finally:
        second.stop()


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_everything_else_may_be_down_while_engine_and_gateway_restart(stack: Stack, task: str) -> None:
    async with api(stack) as client:
        before = await client.chat.completions.create(model=task, messages=HELLO, max_tokens=8)
        await kept(stack, task)
        orphans = children(stack.engine)
        assert orphans
        stack.nats.stop()
        stack.s3.stop()
        try:
            stack.engine.stop(signal.SIGKILL)
            await eventually(lambda: not any(each.is_running() and each.status() != "zombie" for each in orphans))
            stack.gateway.stop(signal.SIGKILL)
            stack.gateway.start()
            await asyncio.to_thread(stack.gateway.wait_ready)
            stack.engine.start()
            # Asked before the engine is back: the request waits for it.
            after = await client.chat.completions.create(model=task, messages=HELLO, max_tokens=8, timeout=360)
            assert after.model == before.model == f"{task}@1"
            assert after.choices[0].message.content == before.choices[0].message.content
            assert (after.model_extra or {})["pawl"] == {
                **(before.model_extra or {})["pawl"],
                "request_id": after.id,
            }
            refused = await httpx.AsyncClient(headers=CLIENT).post(
                f"{stack.http}/v1/feedback?task={task}", json={"kind": "error", "request_id": "r"}
            )
            assert refused.status_code == 503
            assert "retry-after" in refused.headers
        finally:
            stack.nats.start()
            stack.s3.start()

    async def delivered() -> bool:
        messages = await stored(stack, INFERENCE, f"inference.default.{task}")
        return [json.loads(message.data)["request_id"] for message in messages] == [before.id, after.id]

    await eventually(delivered, 30, every=0.2)
