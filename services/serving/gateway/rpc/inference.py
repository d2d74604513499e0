"""InferenceService on the wire: translate only."""

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from libs.contracts.errors import InvalidInput
from libs.contracts.ids import new_id
from libs.contracts.inference import Message, Provenance, Role, ToolCall
from libs.contracts.routes import Arm, Route
from libs.contracts.stubs.pawl.serving.v1 import inference_pb2, inference_pb2_grpc
from libs.contracts.subjects import version_name
from libs.runtime.grpc_client import remaining
from services.serving.gateway.domain import (
    Answers,
    Caller,
    Chunk,
    Deadline,
    Form,
    Generation,
    Query,
    SamplingWish,
    Tables,
    served_versions,
)
from services.serving.gateway.rpc.metadata import Context, metadata_of

SERVICE = "pawl.serving.v1.InferenceService"


class InferenceServicer(inference_pb2_grpc.InferenceServiceServicer):
    """Answers over gRPC; the key travels in `authorization`, the purpose in `x-pawl-purpose`."""

    def __init__(self, *, tables: Tables, answers: Answers, request_seconds: float) -> None:
        """`request_seconds` bounds one answer; a shorter deadline of the client wins."""
        self._tables = tables
        self._answers = answers
        self._request_seconds = request_seconds

    async def Generate(  # noqa: N802 - the generated name
        self, request: inference_pb2.GenerateRequest, context: Context
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
            tool_calls=_calls(chunk),
            logprobs=_logprobs(chunk),
            others=[
                inference_pb2.Choice(
                    index=each.index,
                    text=each.text,
                    finish_reason=each.finish_reason,
                    tool_calls=_calls(each),
                    logprobs=_logprobs(each),
                )
                for each in chunk.others
            ],
        )

    async def GenerateStream(  # noqa: N802 - the generated name
        self, request: inference_pb2.GenerateStreamRequest, context: Context
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
                    index=chunk.index,
                    logprobs=_logprobs(chunk),
                    tool_calls=_calls(chunk),
                )

    async def ExplainRoute(  # noqa: N802 - the generated name
        self, request: inference_pb2.ExplainRouteRequest, context: Context
    ) -> inference_pb2.ExplainRouteResponse:
        """Which version a request would get, and why."""
        metadata = metadata_of(context)
        caller = self._tables.caller(metadata.get("authorization", ""))
        query = Query(
            model=request.model,
            messages=(),
            request_id=new_id("req"),
            user=request.user,
            segment=request.segment,
            facts={**metadata, **_lowered(request.facts)},
        )
        told = self._answers.explain(caller, query)
        arm = told.choice.arm
        return inference_pb2.ExplainRouteResponse(
            model_version=version_name(told.route.task, arm.version),
            role=arm.role.value,
            digest=arm.digest,
            route_generation=told.route.generation,
            assignment=told.assignment,
            canary_share=told.canary_share,
            rules=[
                inference_pb2.RuleOutcome(rule=each.rule, holds=each.holds, why=each.why)
                for each in told.resolution.outcomes
            ],
            reason=told.reason,
            engines=told.engines,
        )

    async def ListModels(  # noqa: N802 - the generated name
        self,
        request: inference_pb2.ListModelsRequest,  # noqa: ARG002
        context: Context,
    ) -> inference_pb2.ListModelsResponse:
        """What the key may ask for, each task before its versions."""
        caller = self._tables.caller(metadata_of(context).get("authorization", ""))
        models = []
        for route in self._tables.routes(caller.tenant):
            if caller.may_ask(route.task):
                stable = route.arm(Role.STABLE)
                models += [_model(route, stable, route.task)] if stable is not None else []
                models += [_model(route, arm, version_name(route.task, arm.version)) for arm in served_versions(route)]
        return inference_pb2.ListModelsResponse(models=models)

    def _read(self, request: inference_pb2.GenerateRequest, context: Context) -> tuple[Caller, Query, Deadline]:
        metadata = metadata_of(context)
        caller = self._tables.caller(metadata.get("authorization", ""))
        purpose = caller.purpose(metadata.get("x-pawl-purpose", ""))
        given, form = request.sampling, request.form
        prompt = request.prompt
        messages = tuple(_message(each) for each in request.messages)
        if prompt and messages:
            raise InvalidInput("cannot be had together with messages", field="prompt")
        query = Query(
            model=request.model,
            messages=(Message(role="user", content=prompt),) if prompt else messages,
            request_id=request.request_id or new_id("req"),
            sampling=_sampling(given),
            user=request.user,
            segment=request.segment,
            purpose=purpose,
            form=Form(
                json_schema=form.json_schema,
                json_object=form.json_object,
                tools=form.tools_json,
                tool_choice=form.tool_choice or "auto",
                single_call=form.single_call,
            ),
            facts={**metadata, **_lowered(request.facts)},
            prompt=prompt,
        )
        return caller, query, Deadline(time.monotonic() + remaining(context, self._request_seconds))


def _model(route: Route, arm: Arm, name: str) -> inference_pb2.Model:
    return inference_pb2.Model(
        name=name,
        task=route.task,
        version=arm.version,
        role=arm.role.value,
        share=arm.share,
        digest=arm.digest,
        base_digest=arm.base_digest,
        route_generation=route.generation,
    )


def _lowered(facts: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in facts.items()}


def _message(given: inference_pb2.Message) -> Message:
    calls = tuple(ToolCall(id=each.id, name=each.name, arguments=each.arguments) for each in given.tool_calls)
    return Message(role=given.role, content=given.content, tool_calls=calls, tool_call_id=given.tool_call_id)


def _sampling(given: inference_pb2.Sampling) -> SamplingWish:
    def said(name: Any) -> Any:
        return getattr(given, name) if given.HasField(name) else None

    return SamplingWish(
        temperature=said("temperature"),
        top_p=said("top_p"),
        max_tokens=said("max_tokens"),
        seed=said("seed"),
        stop=tuple(given.stop),
        presence_penalty=said("presence_penalty"),
        frequency_penalty=said("frequency_penalty"),
        logit_bias=dict(given.logit_bias),
        n=given.n or 1,
        logprobs=given.logprobs,
        top_logprobs=given.top_logprobs,
    )


def _calls(chunk: Chunk) -> list[inference_pb2.ToolCall]:
    return [inference_pb2.ToolCall(id=each.id, name=each.name, arguments=each.arguments) for each in chunk.tool_calls]


def _logprobs(chunk: Chunk) -> list[inference_pb2.TokenLogprob]:
    return [
        inference_pb2.TokenLogprob(
            token=each.token,
            logprob=each.logprob,
            top=[inference_pb2.TopToken(token=token, logprob=value) for token, value in each.top],
        )
        for each in chunk.logprobs
    ]


def _usage(chunk: Chunk) -> inference_pb2.Usage | None:
    if chunk.usage is None:
        return None
    return inference_pb2.Usage(
        prompt_tokens=chunk.usage.prompt_tokens,
        completion_tokens=chunk.usage.completion_tokens,
        cached_tokens=chunk.usage.cached_tokens,
    )


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
