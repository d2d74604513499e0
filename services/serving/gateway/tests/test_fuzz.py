"""No request, however odd, is answered with a fault of ours; the long run is `python -m bench serving_fuzz`."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest_asyncio

from libs.contracts.inference import Role
from libs.contracts.stubs.pawl.serving.v1 import inference_pb2, inference_pb2_grpc
from libs.runtime.grpc_client import channel
from services.serving.conftest import Stack
from services.serving.gateway.tests.fuzz import cases
from services.serving.gateway.tests.test_gateway import CLIENT, served


@pytest_asyncio.fixture
async def task(stack: Stack, fresh_task: str) -> AsyncIterator[str]:
    await stack.put_route(fresh_task, stack.arm(0, Role.STABLE, "", 1.0), max_tokens=2)
    await served(stack, fresh_task)
    yield fresh_task


async def test_odd_requests_are_refused_with_a_reason_or_answered(stack: Stack, task: str) -> None:
    gate = asyncio.Semaphore(16)
    async with httpx.AsyncClient(base_url=stack.http, headers=CLIENT, timeout=300) as http:

        async def one(method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
            async with gate:
                answer = await http.request(method, path, content=body, headers=headers)
                return answer.status_code, f"{method} {path} {body!r}: {answer.status_code} {answer.text[:300]}"

        outcomes = await asyncio.gather(*(one(*case) for case in cases(7, 400, task)))
    faults = [told for status, told in outcomes if status >= 500]
    assert faults == []
    assert {status for status, _ in outcomes} >= {200, 400, 404}


async def test_odd_bytes_over_grpc_are_refused_or_answered(stack: Stack, task: str) -> None:
    rng = random.Random(11)
    opened = channel(stack.gateway.address)
    stub: Any = inference_pb2_grpc.InferenceServiceStub(opened)
    metadata = (("authorization", "Bearer client-key"),)
    codes: set[grpc.StatusCode] = set()
    faults: list[str] = []
    for _ in range(120):
        request = inference_pb2.GenerateRequest(
            model=rng.choice((task, "", "auto", "@", "x" * 5000, f"{task}@0", f"{task}@99")),
            messages=[
                inference_pb2.Message(
                    role=rng.choice(("user", "tool", "", "system")),
                    content=rng.choice(("", "hi", "\x00", "y" * 2000)),
                    tool_calls=[inference_pb2.ToolCall(name="a", arguments=rng.choice(("", "{", "[]", "{}")))]
                    * rng.randint(0, 1),
                )
            ]
            * rng.randint(0, 2),
            sampling=inference_pb2.Sampling(
                temperature=rng.choice((0.0, -1.0, float("nan"), float("inf"))),
                max_tokens=rng.choice((0, 1, 2**32 - 1)),
                n=rng.choice((0, 1, 2, 2**31)),
                logit_bias={rng.choice((1, 2**32 - 1)): rng.choice((1.0, float("nan")))} if rng.random() < 0.2 else {},
            ),
            form=inference_pb2.Form(
                json_schema=rng.choice(("", "", "{", "[]", '{"type":"x"}')), tools_json=rng.choice(("", "", "x", "[]"))
            ),
            prompt=rng.choice(("", "", "", "go on")),
        )
        try:
            await stub.Generate(request, metadata=metadata, timeout=120)
            codes.add(grpc.StatusCode.OK)
        except grpc.aio.AioRpcError as failure:
            codes.add(failure.code())
            if failure.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN):
                faults.append(f"{request}: {failure.details()}")
    await opened.close()
    assert faults == []
    assert {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND} <= codes
