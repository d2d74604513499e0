"""Keys that have used up what they may use, at both doors, and calls given up."""

import asyncio
import hashlib
from typing import Any

import grpc
import httpx
import pytest

from libs.contracts.errors import Busy
from libs.contracts.ids import new_id
from libs.contracts.routes import ApiKey, KeyLimits, KeyRole
from libs.contracts.stubs.pawl.serving.v1 import inference_pb2, inference_pb2_grpc
from libs.contracts.subjects import KEYS
from libs.eventing.connection import NatsLink
from libs.eventing.kv import kv_put
from libs.runtime.grpc_client import channel, rpc_errors
from libs.testing.wait import eventually
from services.serving.conftest import Stack
from services.serving.gateway.tests.doors import HELLO, at_length, engine_in_flight


async def limited(stack: Stack, limits: KeyLimits) -> str:
    """A key of its own with limits, known to the gateway."""
    clear = new_id("limited")
    digest = hashlib.sha256(clear.encode()).hexdigest()
    key = ApiKey(key_hash=digest, name=clear, tenant="default", roles=(KeyRole.CLIENT,), limits=limits)

    async def announce(link: NatsLink) -> None:
        await kv_put(link, KEYS, digest, key)

    await stack.linked(announce)
    async with httpx.AsyncClient(base_url=stack.http, headers={"authorization": f"Bearer {clear}"}) as http:

        async def known() -> bool:
            return (await http.get("/v1/models")).status_code == 200

        await eventually(known, 20)
    return clear


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (KeyLimits(requests_per_minute=1), "key_requests"),
        (KeyLimits(tokens_per_minute=1), "key_tokens"),
        (KeyLimits(tokens_per_day=1), "key_tokens_daily"),
    ],
)
async def test_a_key_that_used_up_its_share_is_told_when_to_come_back(
    stack: Stack, task: str, limits: KeyLimits, reason: str
) -> None:
    key = await limited(stack, limits)
    body = {"model": task, "messages": HELLO, "max_tokens": 2}
    async with httpx.AsyncClient(base_url=stack.http, headers={"authorization": f"Bearer {key}"}, timeout=60) as http:
        first = await http.post("/v1/chat/completions", json=body)
        second = await http.post("/v1/chat/completions", json=body)
    assert first.status_code == 200
    assert second.status_code == 429
    assert second.json()["error"]["type"] == "rate_limit_error"
    assert second.json()["error"]["code"] == reason
    assert int(second.headers["retry-after"]) >= 1
    opened = channel(stack.gateway.address)
    stub: Any = inference_pb2_grpc.InferenceServiceStub(opened)
    asked = inference_pb2.GenerateRequest(model=task, messages=[inference_pb2.Message(role="user", content="hello")])
    with pytest.raises(Busy) as refused, rpc_errors():
        await stub.Generate(asked, metadata=(("authorization", f"Bearer {key}"),), timeout=30)
    assert int(refused.value.metadata["retry_after"]) >= 1
    await opened.close()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_call_that_is_cancelled_frees_the_engine(stack: Stack, task: str, stream: bool) -> None:
    await at_length(stack, task)
    opened = channel(stack.gateway.address)
    stub: Any = inference_pb2_grpc.InferenceServiceStub(opened)
    asked = inference_pb2.GenerateRequest(
        model=task,
        messages=[inference_pb2.Message(role="user", content="hello")],
        # They never end by themselves before their time: the token that would end them is out of reach.
        sampling=inference_pb2.Sampling(max_tokens=480, logit_bias={2: -100}, n=8, temperature=1.0),
    )
    metadata = (("authorization", "Bearer client-key"),)
    if stream:
        call = stub.GenerateStream(inference_pb2.GenerateStreamRequest(request=asked), metadata=metadata, timeout=60)
        await call.read()
    else:
        call = stub.Generate(asked, metadata=metadata, timeout=60)

    async def busy() -> bool:
        return await engine_in_flight(stack) > 0

    async def idle() -> bool:
        return await engine_in_flight(stack) == 0

    await eventually(busy, 30)
    call.cancel()
    with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
        await (call.read() if stream else call)
    await eventually(idle, 30)
    await opened.close()
