"""The gateway as the evaluator sees it, and how far behind its own consumers are."""

import time
from collections.abc import Sequence

from nats.errors import Error as NatsError
from pydantic import SecretStr

from libs.contracts.inference import Message, Provenance, ToolCall
from libs.contracts.stubs.pawl.serving.v1 import inference_pb2, inference_pb2_grpc
from libs.contracts.tooling import answer_of
from libs.eventing import topology
from libs.eventing.connection import NatsLink
from libs.eventing.publish import translate
from libs.runtime.grpc_client import call, channel
from services.evaluator.domain.answers import Answer


class Gateway:
    """Generates through the door that production uses, under the evaluator's key."""

    def __init__(self, address: str, api_key: SecretStr, *, deadline: float) -> None:
        self._channel = channel(address)
        self._stub = inference_pb2_grpc.InferenceServiceStub(self._channel)
        self._deadline = deadline
        self._metadata = (
            ("authorization", f"Bearer {api_key.get_secret_value()}"),
            ("x-pawl-purpose", "evaluation"),
        )

    async def generate(
        self, model: str, messages: Sequence[Message], *, item_id: str, request_id: str, max_tokens: int, tools: str
    ) -> tuple[Answer, str]:
        """One greedy answer and the public name of the version that gave it; raises what the gateway raises."""
        began = time.monotonic()
        request = inference_pb2.GenerateRequest(
            model=model,
            messages=[_message(each) for each in messages],
            sampling=inference_pb2.Sampling(temperature=0.0, max_tokens=max_tokens),
            request_id=request_id,
            form=inference_pb2.Form(tools_json=tools) if tools else None,
        )
        response = await call(self._stub.Generate, request, timeout=self._deadline, metadata=self._metadata)
        made = response.provenance
        provenance = Provenance(
            base_digest=made.base_digest,
            adapter_digest=made.adapter_digest,
            tokenizer_digest=made.tokenizer_digest,
            template_digest=made.template_digest,
        )
        answer = Answer(
            item_id,
            answer_of(_answered(response)),
            provenance,
            prompt_tokens=response.usage.prompt_tokens,
            completion_tokens=response.usage.completion_tokens,
            seconds=round(time.monotonic() - began, 4),
        )
        return answer, made.model_version

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


class Backlog:
    """How many messages of a durable of ours are not handled yet."""

    def __init__(self, link: NatsLink) -> None:
        self._link = link

    async def unhandled(self, durable: str) -> int:
        """Messages undelivered or unacknowledged (a killed process's too); Unavailable while the broker is away."""
        stream = topology.consumer(durable).stream
        js = self._link.js
        try:
            info = await js.consumer_info(stream, durable)
        except (NatsError, OSError) as error:
            raise translate(error, f"consumer {durable}", js) from error
        return int(info.num_pending or 0) + int(info.num_ack_pending or 0)


def _answered(response: inference_pb2.GenerateResponse) -> Message:
    calls = tuple(ToolCall(id=each.id, name=each.name, arguments=each.arguments) for each in response.tool_calls)
    return Message(role="assistant", content=response.text, tool_calls=calls)


def _message(given: Message) -> inference_pb2.Message:
    calls = [inference_pb2.ToolCall(id=each.id, name=each.name, arguments=each.arguments) for each in given.tool_calls]
    return inference_pb2.Message(
        role=given.role, content=given.content, tool_calls=calls, tool_call_id=given.tool_call_id
    )
