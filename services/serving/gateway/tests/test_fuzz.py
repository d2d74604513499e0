"""No request, however odd, is answered with a fault of ours; the long run is `python -m bench serving_fuzz`."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest_asyncio
from google.protobuf.message import Message

from libs.contracts.inference import Role
from libs.contracts.stubs.pawl.serving.v1 import feedback_pb2_grpc, inference_pb2_grpc, operations_pb2_grpc
from libs.runtime.grpc_client import channel
from services.serving.conftest import Stack
from services.serving.gateway.tests.doors import CLIENT, served
from services.serving.gateway.tests.fuzz import calls, cases

STUBS: dict[str, Any] = {
    "InferenceService": inference_pb2_grpc.InferenceServiceStub,
    "FeedbackService": feedback_pb2_grpc.FeedbackServiceStub,
    "OperationsService": operations_pb2_grpc.OperationsServiceStub,
}


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


async def test_odd_calls_over_grpc_are_refused_or_answered(stack: Stack, task: str) -> None:
    opened = channel(stack.gateway.address)
    codes: set[grpc.StatusCode] = set()
    faults: list[str] = []
    for service, method, request in calls(11, 160, task):
        code, told = await called(opened, service, method, request)
        codes.add(code)
        if code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN):
            faults.append(f"{method} {request}: {told}")
    await opened.close()
    assert faults == []
    assert {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND} <= codes


async def called(opened: grpc.aio.Channel, service: str, method: str, request: Message) -> tuple[grpc.StatusCode, str]:
    """The code of one call as the client key, and what was told of it."""
    stub = STUBS[service](opened)
    try:
        answer = getattr(stub, method)(request, metadata=(("authorization", "Bearer client-key"),), timeout=300)
        if method == "GenerateStream":
            _ = [piece async for piece in answer]
        else:
            await answer
    except grpc.aio.AioRpcError as failure:
        return failure.code(), failure.details() or ""
    return grpc.StatusCode.OK, ""
