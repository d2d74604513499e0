"""InferenceService and FeedbackService on the wire: translate only."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc

from libs.contracts.ids import new_id
from libs.contracts.inference import Message, Provenance
from libs.contracts.stubs.pawl.serving.v1 import feedback_pb2, feedback_pb2_grpc, inference_pb2, inference_pb2_grpc
from libs.runtime.grpc_client import remaining
from services.serving.gateway.domain import (
    Answers,
    Caller,
    Chunk,
    Deadline,
    FeedbackDoor,
    Generation,
    Query,
    SamplingWish,
    Tables,
)

INFERENCE_SERVICE = "pawl.serving.v1.InferenceService"
FEEDBACK_SERVICE = "pawl.serving.v1.FeedbackService"
_Context = grpc.aio.ServicerContext[Any, Any]


class InferenceServicer(inference_pb2_grpc.InferenceServiceServicer):
    """Answers over gRPC; the key travels in `authorization`, the purpose in `x-pawl-purpose`."""

    def __init__(self, *, tables: Tables, answers: Answers, request_seconds: float) -> None:
        """`request_seconds` bounds one answer; a shorter deadline of the client wins."""
        self._tables = tables
        self._answers = answers
        self._request_seconds = request_seconds

    async def Generate(  # noqa: N802 - the generated name
        self, request: inference_pb2.GenerateRequest, context: _Context
    ) -> inference_pb2.GenerateResponse:
        """One answer, whole."""
        caller, query, deadline = self._read(request, context)
        generation, chunk = await self._answers.whole(caller, query, deadline)
        return inference_pb2.GenerateResponse(
            request_id=generation.request_id,
            text=chunk.text,
            finish_reason=chunk.finish_reason,
            usage=_usage(chunk),
            provenance=_provenance(generation, chunk.provenance),
        )

    async def GenerateStream(  # noqa: N802 - the generated name
        self, request: inference_pb2.GenerateStreamRequest, context: _Context
    ) -> AsyncGenerator[inference_pb2.GenerateStreamResponse, None]:
        """One answer, piece by piece; the last one has finish reason, usage and provenance."""
        caller, query, deadline = self._read(request.request, context)
        async with aclosing(self._answers.answer(caller, query, deadline)) as pieces:
            async for generation, chunk in pieces:
                yield inference_pb2.GenerateStreamResponse(
                    request_id=generation.request_id,
                    text_delta=chunk.text,
                    finish_reason=chunk.finish_reason,
                    usage=_usage(chunk),
                    provenance=_provenance(generation, chunk.provenance),
                )

    def _read(self, request: inference_pb2.GenerateRequest, context: _Context) -> tuple[Caller, Query, Deadline]:
        metadata = {str(key): str(value) for key, value in context.invocation_metadata() or ()}
        caller = self._tables.caller(metadata.get("authorization", ""))
        purpose = caller.purpose(metadata.get("x-pawl-purpose", ""))
        given = request.sampling
        query = Query(
            model=request.model,
            messages=tuple(Message(role=each.role, content=each.content) for each in request.messages),
            request_id=request.request_id or new_id("req"),
            sampling=SamplingWish(
                temperature=given.temperature if given.HasField("temperature") else None,
                top_p=given.top_p if given.HasField("top_p") else None,
                max_tokens=(given.max_tokens or None) if given.HasField("max_tokens") else None,
                seed=given.seed if given.HasField("seed") else None,
                stop=tuple(given.stop),
            ),
            user=request.user,
            segment=request.segment,
            purpose=purpose,
        )
        return caller, query, Deadline(time.monotonic() + remaining(context, self._request_seconds))


class FeedbackServicer(feedback_pb2_grpc.FeedbackServiceServicer):
    """Feedback over gRPC."""

    def __init__(self, *, tables: Tables, feedback: FeedbackDoor) -> None:
        self._tables = tables
        self._feedback = feedback

    async def PublishFeedback(  # noqa: N802 - the generated name
        self, request: feedback_pb2.PublishFeedbackRequest, context: _Context
    ) -> feedback_pb2.PublishFeedbackResponse:
        """Store events; answers once the stream has them all."""
        metadata = {str(key): str(value) for key, value in context.invocation_metadata() or ()}
        caller = self._tables.caller(metadata.get("authorization", ""))
        documents = [each.encode() for each in request.events_json]
        sequences = await self._feedback.publish(caller, request.task, documents, "events_json")
        return feedback_pb2.PublishFeedbackResponse(sequences=sequences)


def register(server: Any, inference: InferenceServicer, feedback: FeedbackServicer) -> None:
    """Add both servicers to a `GrpcServer`."""
    server.add(inference_pb2_grpc.add_InferenceServiceServicer_to_server, inference, INFERENCE_SERVICE)
    server.add(feedback_pb2_grpc.add_FeedbackServiceServicer_to_server, feedback, FEEDBACK_SERVICE)


def _usage(chunk: Chunk) -> inference_pb2.Usage | None:
    if chunk.usage is None:
        return None
    return inference_pb2.Usage(prompt_tokens=chunk.usage.prompt_tokens, completion_tokens=chunk.usage.completion_tokens)


def _provenance(generation: Generation, provenance: Provenance) -> inference_pb2.Provenance:
    return inference_pb2.Provenance(
        model_version=generation.version,
        base_digest=provenance.base_digest,
        adapter_digest=provenance.adapter_digest,
        tokenizer_digest=provenance.tokenizer_digest,
        template_digest=provenance.template_digest,
        route_generation=generation.route_generation,
        turn_traceparent=generation.turn_traceparent,
    )
