"""A real gateway before a real engine: the doors as clients know them."""

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest

from libs.contracts.errors import InvalidInput, NotFound, PermissionDenied, Unauthenticated
from libs.contracts.inference import Inference, Role
from libs.contracts.stubs.pawl.serving.v1 import (
    feedback_pb2,
    feedback_pb2_grpc,
    inference_pb2,
    inference_pb2_grpc,
    operations_pb2,
    operations_pb2_grpc,
)
from libs.contracts.subjects import FEEDBACK, INFERENCE
from libs.runtime.grpc_client import channel, rpc_errors
from libs.testing.wait import eventually
from services.serving.conftest import Stack
from services.serving.gateway.tests.doors import CLIENT, HELLO, api, eventually_on_canary, served, stored


async def test_the_official_client_works_unmodified(stack: Stack, task: str) -> None:
    async with api(stack) as client:
        answer = await client.chat.completions.create(model=task, messages=HELLO, max_tokens=6, user="ann")
        assert answer.model == f"{task}@1"
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 6
        assert answer.choices[0].finish_reason == "length"
        assert answer.system_fingerprint
        extra = answer.model_extra or {}
        assert extra["pawl"]["base_digest"] == stack.base_digest
        assert extra["pawl"]["adapter_digest"].startswith("sha256:")
        streamed = await client.chat.completions.create(
            model=task, messages=HELLO, max_tokens=6, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in streamed]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == answer.choices[0].message.content
        assert chunks[-1].usage is not None
        names = [model.id async for model in client.models.list()]
        assert task in names
        assert f"{task}@1" in names
        assert f"{task}@3" not in names


async def test_headers_name_version_request_and_trace(stack: Stack, task: str) -> None:
    async with httpx.AsyncClient(base_url=stack.http, headers=CLIENT) as http:
        trace = "0af7651916cd43dd8448eb211c80319c"
        answer = await http.post(
            "/v1/chat/completions",
            json={"model": task, "messages": HELLO, "max_tokens": 2},
            headers={"x-pawl-request-id": "mine", "traceparent": f"00-{trace}-b7ad6b7169203331-01"},
        )
    assert answer.headers["x-pawl-model-version"] == f"{task}@1"
    assert answer.headers["x-pawl-request-id"] == answer.json()["id"] == "mine"
    assert answer.headers["x-pawl-trace-id"] == trace


async def test_every_inference_is_published_with_its_provenance(stack: Stack, task: str) -> None:
    async with api(stack) as client:
        answer = await client.chat.completions.create(model=task, messages=HELLO, max_tokens=3, user="ann")

    async def published() -> list[Any]:
        return await stored(stack, INFERENCE, f"inference.default.{task}")

    (message,) = await eventually(published)
    record = Inference.model_validate_json(message.data)
    assert record.request_id == answer.id
    assert (record.version, record.role, record.assignment_probability) == (1, Role.STABLE, 1.0)
    assert record.output == answer.choices[0].message.content
    assert "ann" not in record.unit
    assert record.provenance.tokenizer_digest.startswith("sha256:")


async def test_a_candidate_answers_the_evaluator_alone_and_off_the_record(stack: Stack, task: str) -> None:
    async with api(stack) as client, api(stack, "evaluator-key") as evaluator:
        with pytest.raises(openai.PermissionDeniedError):
            await client.chat.completions.create(model=f"{task}@3", messages=HELLO)
        answer = await evaluator.chat.completions.create(
            model=f"{task}@3", messages=HELLO, max_tokens=2, extra_headers={"x-pawl-purpose": "evaluation"}
        )
        assert answer.model == f"{task}@3"
        with pytest.raises(openai.PermissionDeniedError):
            await client.chat.completions.create(
                model=task, messages=HELLO, extra_headers={"x-pawl-purpose": "evaluation"}
            )
    assert await stored(stack, INFERENCE, f"inference.default.{task}") == []


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"model": "nobody"}, 404, "model"),
        ({"model": "nobody@x"}, 404, "model"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "user"}]}, 400, "messages.0.content"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, 400, "messages.0.role"),
        ({"messages": [{"role": "user", "content": "x" * 700}]}, 400, "messages"),
        ({"temperature": 3}, 400, "temperature"),
        ({"temperature": "hot"}, 400, "temperature"),
        ({"max_tokens": -1}, 400, "max_tokens"),
        ({"n": 99}, 400, "n"),
        ({"tools": [{"type": "function"}]}, 400, "tools.0"),
        ({"tool_choice": "required"}, 400, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, 400, "response_format.json_schema"),
        ({"top_logprobs": 3}, 400, "top_logprobs"),
        ({"logit_bias": {"70000": 5}}, 400, "logit_bias"),
        ({"echo": True}, 400, "echo"),
    ],
)
async def test_a_bad_request_names_its_parameter(
    stack: Stack, task: str, change: dict[str, Any], status: int, param: str
) -> None:
    async with httpx.AsyncClient(base_url=stack.http, headers=CLIENT, timeout=30) as http:
        for stream in (False, True):
            body = {"model": task, "messages": HELLO, "stream": stream, **change}
            answer = await http.post("/v1/chat/completions", json=body)
            assert answer.status_code == status, answer.text
            assert answer.json()["error"]["param"] == param


async def test_without_a_known_key_there_is_no_answer(stack: Stack, task: str) -> None:
    async with httpx.AsyncClient(base_url=stack.http) as http:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic client-key"}):
            answer = await http.post("/v1/chat/completions", json={"model": task, "messages": HELLO}, headers=headers)
            assert answer.status_code == 401
            assert answer.json()["error"]["type"] == "authentication_error"


async def test_a_body_that_is_too_large_is_refused(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.http, headers=CLIENT) as http:
        answer = await http.post("/v1/chat/completions", content=b"x" * (2 * 1024 * 1024))
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "body_too_large"
        assert (await http.get("/nowhere")).json()["error"]["code"] == "unknown_url"


async def test_feedback_is_answered_once_it_is_stored(stack: Stack, task: str) -> None:
    event = {"kind": "rating", "rating": 1, "request_id": "r1", "id": "f1", "source": "crm"}
    async with httpx.AsyncClient(base_url=stack.http, headers=CLIENT) as http:
        one = await http.post("/v1/feedback", json={"task": task, **event})
        many = await http.post(f"/v1/feedback?task={task}", json=[event, {**event, "id": "f2"}])
        bad = await http.post(f"/v1/feedback?task={task}", json=[event, {"kind": "rating", "request_id": "r"}])
        unnamed = await http.post("/v1/feedback", json=event)
        unknown = await http.post("/v1/feedback?task=nobody", json=event)
    assert (one.status_code, many.status_code) == (202, 202)
    assert bad.status_code == unnamed.status_code == 400
    assert unknown.status_code == 404
    assert bad.json()["error"]["param"].startswith("events.1")
    assert unnamed.json()["error"]["param"] == unknown.json()["error"]["param"] == "task"
    messages = await stored(stack, FEEDBACK, f"feedback.default.{task}")
    assert [json.loads(message.data)["id"] for message in messages] == ["f1", "f2"]


async def test_grpc_answers_whole_and_in_pieces(stack: Stack, task: str) -> None:
    metadata = (("authorization", "Bearer client-key"),)
    request = inference_pb2.GenerateRequest(
        model=task,
        messages=[inference_pb2.Message(role="user", content="hello")],
        sampling=inference_pb2.Sampling(max_tokens=5),
    )
    opened = channel(stack.gateway.address)
    stub: Any = inference_pb2_grpc.InferenceServiceStub(opened)
    whole = await stub.Generate(request, metadata=metadata, timeout=60)
    pieces = [
        each
        async for each in stub.GenerateStream(
            inference_pb2.GenerateStreamRequest(request=request), metadata=metadata, timeout=60
        )
    ]
    assert whole.provenance.model_version == f"{task}@1"
    assert "".join(each.text_delta for each in pieces) == whole.text
    assert pieces[-1].usage.completion_tokens == whole.usage.completion_tokens == 5
    assert pieces[-1].provenance == whole.provenance
    for change, error in (
        ({"model": "nobody"}, NotFound),
        ({"model": f"{task}@3"}, PermissionDenied),
        ({"messages": []}, InvalidInput),
    ):
        values: dict[str, Any] = {"model": task, "messages": list(request.messages), **change}
        with pytest.raises(error), rpc_errors():
            await stub.Generate(inference_pb2.GenerateRequest(**values), metadata=metadata, timeout=30)
    with pytest.raises(Unauthenticated), rpc_errors():
        await stub.Generate(request, timeout=30)
    feedback: Any = feedback_pb2_grpc.FeedbackServiceStub(opened)
    published = await feedback.PublishFeedback(
        feedback_pb2.PublishFeedbackRequest(
            task=task, events_json=['{"kind":"correction","correction":"x","request_id":"r","id":"g1"}']
        ),
        metadata=metadata,
        timeout=30,
    )
    assert len(published.sequences) == 1
    await opened.close()


async def test_grpc_lists_what_a_key_may_ask_for(stack: Stack, task: str) -> None:
    opened = channel(stack.gateway.address)
    stub: Any = inference_pb2_grpc.InferenceServiceStub(opened)
    told = await stub.ListModels(
        inference_pb2.ListModelsRequest(), metadata=(("authorization", "Bearer client-key"),), timeout=30
    )
    mine = {each.name: each for each in told.models if each.task == task}
    assert set(mine) == {task, f"{task}@1", f"{task}@0"}
    assert (mine[task].version, mine[task].role, mine[task].digest) == (1, "stable", mine[f"{task}@1"].digest)
    with pytest.raises(Unauthenticated), rpc_errors():
        await stub.ListModels(inference_pb2.ListModelsRequest(), timeout=30)
    await opened.close()


async def test_operators_are_told_of_engines_and_slots_and_everybody_of_their_own_use(stack: Stack, task: str) -> None:
    opened = channel(stack.gateway.address)
    stub: Any = operations_pb2_grpc.OperationsServiceStub(opened)
    client = (("authorization", "Bearer client-key"),)
    async with api(stack) as asking:
        await asking.chat.completions.create(model=task, messages=HELLO, max_tokens=3)
    with pytest.raises(PermissionDenied), rpc_errors():
        await stub.DescribeFleet(operations_pb2.DescribeFleetRequest(), metadata=client, timeout=30)
    fleet = await stub.DescribeFleet(
        operations_pb2.DescribeFleetRequest(), metadata=(("authorization", "Bearer operator-key"),), timeout=30
    )
    (engine,) = fleet.engines
    assert (engine.base_digest, engine.slots, engine.max_adapters) == (stack.base_digest, 3, 6)
    (demand,) = fleet.demands
    assert demand.engines == 1
    assert demand.serving >= 1
    usage = await stub.ReportUsage(operations_pb2.ReportUsageRequest(), metadata=client, timeout=30)
    (line,) = [each for each in usage.lines if each.task == task]
    assert (line.version, line.purpose, line.key, line.answers, line.completion_tokens) == (
        1,
        "use",
        "client-key",
        1,
        3,
    )
    assert line.engine_seconds > 0
    with pytest.raises(InvalidInput), rpc_errors():
        await stub.ReportUsage(operations_pb2.ReportUsageRequest(since="2026-1-1"), metadata=client, timeout=30)
    await opened.close()


async def test_a_user_stays_with_the_canary_and_the_log_knows_the_odds(stack: Stack, fresh_task: str) -> None:
    stable, canary = await stack.adapter("s", 51), await stack.adapter("c", 52)
    await stack.put_route(fresh_task, stack.arm(1, Role.STABLE, stable, 0.5), stack.arm(2, Role.CANARY, canary, 0.5))
    await served(stack, fresh_task)
    async with api(stack) as client:

        async def asked(user: str) -> str:
            answer = await client.chat.completions.create(model=fresh_task, messages=HELLO, max_tokens=1, user=user)
            return str(answer.model)

        users = [f"user-{number}" for number in range(12)]
        await asyncio.gather(*(eventually_on_canary(stack, canary), asked("warm-up")))
        first = [await asked(user) for user in users]
        assert first == [await asked(user) for user in users]
    assert set(first) == {f"{fresh_task}@1", f"{fresh_task}@2"}


async def test_a_route_is_explained_without_asking_a_model(stack: Stack, task: str) -> None:
    async with httpx.AsyncClient(base_url=stack.http, headers=CLIENT) as http:
        told = (await http.get("/v1/route", params={"model": task, "user": "ann"})).json()
        lost = await http.get("/v1/route", params={"model": "auto"})
    assert told["model_version"] == f"{task}@1"
    assert "stable" in told["reason"]
    assert lost.status_code == 404
