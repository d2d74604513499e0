"""A client that knows nothing but the address: it learns the API by reflection, as grpcurl and its like do."""

import asyncio
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from services.serving.conftest import Stack

METADATA = (("authorization", "Bearer client-key"),)
SERVICE = "pawl.serving.v1.InferenceService"


class Stranger:
    """Calls methods by name with plain values; every message class is made from what the server tells."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = DescriptorPool(self.database)

    def services(self) -> set[str]:
        return set(self.database.get_services())

    def call(self, service: str, method: str, **values: Any) -> list[Any]:
        told = self.pool.FindServiceByName(service).FindMethodByName(method)
        request, response = GetMessageClass(told.input_type), GetMessageClass(told.output_type)
        make = self.channel.unary_stream if told.server_streaming else self.channel.unary_unary
        ask = make(f"/{service}/{method}", request.SerializeToString, response.FromString)
        answer: Any = ask(request(**values), metadata=METADATA, timeout=60)
        return list(answer) if told.server_streaming else [answer]


async def test_a_client_that_learns_the_api_by_reflection_lists_asks_and_streams(stack: Stack, task: str) -> None:
    def visit() -> None:
        stranger = Stranger(stack.gateway.address)
        assert {SERVICE, "pawl.serving.v1.FeedbackService", "grpc.health.v1.Health"} <= stranger.services()
        (listed,) = stranger.call(SERVICE, "ListModels")
        assert task in {each.name for each in listed.models}
        asked = {
            "model": task,
            "messages": [{"role": "user", "content": "hello"}],
            "sampling": {"max_tokens": 5},
        }
        (whole,) = stranger.call(SERVICE, "Generate", **asked)
        pieces = stranger.call(SERVICE, "GenerateStream", request=asked)
        assert whole.provenance.model_version == f"{task}@1"
        assert "".join(each.text_delta for each in pieces) == whole.text
        assert pieces[-1].usage.completion_tokens == 5
        (told,) = stranger.call(SERVICE, "ExplainRoute", model=task, user="ann")
        assert told.model_version == f"{task}@1"
        stranger.channel.close()

    await asyncio.to_thread(visit)
