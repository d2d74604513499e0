"""What clients that know nothing of Pawl can do with it."""

import json
from typing import Any

import grpc
import nats
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from openai import OpenAI

from tests.e2e.stack import RunningStack, until

TICKET = "Hello, we were charged twice for Ledgerly this month. The asset is SV-12345. Only I am affected."


def openai(stack: RunningStack) -> OpenAI:
    status = stack.status()
    return OpenAI(base_url=status["endpoints"]["http"], api_key=status["api_key"])


def test_the_official_openai_client_lists_models_and_chats_unmodified(stack: RunningStack) -> None:
    client = openai(stack)
    assert "support-triage" in [model.id for model in client.models.list()]
    answer = client.chat.completions.create(
        model="support-triage", messages=[{"role": "user", "content": TICKET}], user="u1", max_tokens=8
    )
    assert answer.model == "support-triage@0"
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 8


def test_the_official_openai_client_streams_the_same_answer(stack: RunningStack) -> None:
    client = openai(stack)
    asked: dict[str, Any] = {
        "model": "support-triage",
        "messages": [{"role": "user", "content": TICKET}],
        "user": "u1",
        "max_tokens": 12,
    }
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True))
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        == whole.choices[0].message.content
    )
    assert {chunk.model for chunk in chunks} == {"support-triage@0"}


def test_a_generic_grpc_client_finds_its_way_by_reflection(stack: RunningStack) -> None:
    status = stack.status()
    credentials = (("authorization", f"Bearer {status['api_key']}"),)
    with grpc.insecure_channel(status["endpoints"]["grpc"]) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        service = pool.FindServiceByName("pawl.serving.v1.InferenceService")

        def prepared(method: str, document: dict[str, Any]) -> tuple[str, Any, Any]:
            described = service.methods_by_name[method]
            ask = json_format.ParseDict(document, message_factory.GetMessageClass(described.input_type)())
            return f"/{service.full_name}/{method}", ask, message_factory.GetMessageClass(described.output_type)

        request = {
            "model": "support-triage",
            "messages": [{"role": "user", "content": TICKET}],
            "sampling": {"maxTokens": 8},
        }
        path, ask, reply = prepared("Generate", request)
        call = channel.unary_unary(
            path, request_serializer=lambda m: m.SerializeToString(), response_deserializer=reply.FromString
        )
        whole = call(ask, timeout=30, metadata=credentials)
        assert whole.provenance.model_version == "support-triage@0"
        assert whole.provenance.base_digest.startswith("sha256:")
        path, ask, reply = prepared("GenerateStream", {"request": request})
        stream = channel.unary_stream(
            path, request_serializer=lambda m: m.SerializeToString(), response_deserializer=reply.FromString
        )
        parts = list(stream(ask, timeout=30, metadata=credentials))
        assert "".join(part.text_delta for part in parts) == whole.text
        assert parts[-1].finish_reason
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert health.status == health_pb2.HealthCheckResponse.SERVING


async def test_plain_json_over_nats_is_counted_once_though_published_three_times(stack: RunningStack) -> None:
    with stack.client() as pawl:
        before = pawl.intake("support-triage").kinds.get("comment", 0)
        client = await nats.connect(stack.status()["endpoints"]["nats"])
        event = {"id": "thrice", "source": "plain", "kind": "comment", "input": "hello", "comment": "nice"}
        for _ in range(3):
            await client.publish("feedback.default.support-triage", json.dumps(event).encode())
        await client.drain()
        until(lambda: pawl.intake("support-triage").kinds.get("comment", 0) == before + 1, 20, "counted")
        until(lambda: pawl.intake("support-triage").duplicates >= 2, 20, "recognised as duplicates")
        assert pawl.intake("support-triage").kinds["comment"] == before + 1
