"""Engines over gRPC: one channel per address, kept; an answer comes as pieces with their proof."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any

import grpc

from libs.contracts.inference import Message, Provenance
from libs.contracts.stubs.pawl.serving.v1 import engine_pb2, inference_pb2
from libs.runtime.grpc_client import channel, errors_from_rpc
from libs.telemetry import current_traceparent
from services.serving.gateway.clients.outside import OutsideCalls, OutsideServer
from services.serving.gateway.domain import Chunk, Embedded, Inquiry, TextBatch, TokenLogprob, Usage

_INFER = "/pawl.serving.v1.EngineService/Infer"
_EMBED = "/pawl.serving.v1.EngineService/Embed"


class _Line:
    """A channel to one engine, and the two ways of asking it.

    `whole` is for an answer that comes as one message: a stream of one message is on the wire what a single response is
    (gRPC over HTTP/2), and waiting for a single response costs half of what reading a stream does.
    """

    def __init__(self, address: str) -> None:
        self.channel = channel(address, plain=True)
        methods: dict[str, Any] = {
            "request_serializer": engine_pb2.InferRequest.SerializeToString,
            "response_deserializer": engine_pb2.InferResponse.FromString,
        }
        self.pieces = self.channel.unary_stream(_INFER, **methods)
        self.whole = self.channel.unary_unary(_INFER, **methods)
        self.embed = self.channel.unary_unary(
            _EMBED,
            request_serializer=engine_pb2.EmbedRequest.SerializeToString,
            response_deserializer=engine_pb2.EmbedResponse.FromString,
        )


class Engines:
    """Calls to engines; counts what is in flight per address."""

    def __init__(self, outside: Iterable[OutsideServer] = ()) -> None:
        """`outside`: servers of somebody else's, asked at their own addresses."""
        self._outside = {each.address: OutsideCalls(each) for each in outside}
        self._lines: dict[str, _Line] = {}
        self._in_flight: dict[str, int] = {}

    def in_flight(self) -> dict[str, int]:
        """Calls running now, by address."""
        return self._in_flight

    async def infer(self, address: str, inquiry: Inquiry) -> AsyncGenerator[Chunk, None]:
        """Pieces of an answer; closing the iterator cancels the call, which aborts the generation.

        Raises Unavailable when the engine is away or the time is over, and whatever the engine refuses.
        """
        self._in_flight[address] = self._in_flight.get(address, 0) + 1
        call: grpc.aio.Call | None = None
        try:
            if address in self._outside:
                async with aclosing(self._outside[address].infer(inquiry)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                return
            line, request = self._line(address), _request(inquiry)
            traceparent = current_traceparent()
            metadata = (("traceparent", traceparent),) if traceparent else ()
            if inquiry.whole and inquiry.sampling.n == 1:
                call = answer = line.whole(request, timeout=inquiry.timeout, metadata=metadata)
                yield _chunk(await answer)
                return
            call = pieces = line.pieces(request, timeout=inquiry.timeout, metadata=metadata)
            async for response in pieces:
                yield _chunk(response)
        except grpc.aio.AioRpcError as failure:
            raise errors_from_rpc(failure) from failure
        finally:
            if call is not None:
                call.cancel()
            self._in_flight[address] -= 1
            if not self._in_flight[address]:
                del self._in_flight[address]

    async def embed(self, address: str, wanted: TextBatch) -> Embedded:
        """One vector for each text, from whoever makes them. Raises Unavailable and what it refuses."""
        self._in_flight[address] = self._in_flight.get(address, 0) + 1
        try:
            if address in self._outside:
                return await self._outside[address].embed(wanted)
            request = engine_pb2.EmbedRequest(
                request_id=wanted.request_id,
                texts=wanted.texts,
                version_digest=wanted.digest,
                priority=wanted.priority,
            )
            made = await self._line(address).embed(request, timeout=wanted.timeout)
            return Embedded(
                tuple(tuple(each.values) for each in made.vectors),
                Provenance(
                    base_digest=made.base_digest,
                    adapter_digest=made.adapter_digest,
                    tokenizer_digest=made.tokenizer_digest,
                ),
                made.prompt_tokens,
                made.engine_seconds,
            )
        except grpc.aio.AioRpcError as failure:
            raise errors_from_rpc(failure) from failure
        finally:
            self._in_flight[address] -= 1
            if not self._in_flight[address]:
                del self._in_flight[address]

    async def keep(self, addresses: set[str]) -> None:
        """Close channels to addresses that no report names any more and no call uses."""
        for address in [each for each in self._lines if each not in addresses and each not in self._in_flight]:
            await self._lines.pop(address).channel.close()

    async def close(self) -> None:
        """Close every channel."""
        for each in self._outside.values():
            await each.close()
        while self._lines:
            await self._lines.popitem()[1].channel.close()

    def _line(self, address: str) -> _Line:
        line = self._lines.get(address)
        if line is None:
            line = self._lines[address] = _Line(address)
        return line


def _request(inquiry: Inquiry) -> engine_pb2.InferRequest:
    wish, form = inquiry.sampling, inquiry.form
    return engine_pb2.InferRequest(
        request_id=inquiry.request_id,
        messages=[] if inquiry.prompt else [_message(each) for each in inquiry.messages],
        sampling=inference_pb2.Sampling(
            temperature=wish.temperature,
            top_p=wish.top_p,
            max_tokens=wish.max_tokens,
            seed=wish.seed,
            stop=wish.stop,
            presence_penalty=wish.presence_penalty,
            frequency_penalty=wish.frequency_penalty,
            logit_bias=wish.logit_bias,
            n=wish.n,
            logprobs=wish.logprobs,
            top_logprobs=wish.top_logprobs,
        ),
        version_digest=inquiry.digest,
        priority=inquiry.priority,
        whole=inquiry.whole,
        prompt=inquiry.prompt,
        tools_json=form.tools if form.offers_tools else "",
        json_schema=form.constraint(),
        json_object=form.json_object,
        cache_salt=inquiry.cache_salt,
    )


def _message(message: Message) -> inference_pb2.Message:
    calls = [
        inference_pb2.ToolCall(id=each.id, name=each.name, arguments=each.arguments) for each in message.tool_calls
    ]
    return inference_pb2.Message(
        role=message.role, content=message.content, tool_calls=calls, tool_call_id=message.tool_call_id
    )


def _chunk(response: engine_pb2.InferResponse) -> Chunk:
    usage = response.usage if response.HasField("usage") else None
    return Chunk(
        text=response.text_delta,
        provenance=Provenance(
            base_digest=response.base_digest,
            adapter_digest=response.adapter_digest,
            tokenizer_digest=response.tokenizer_digest,
            template_digest=response.template_digest,
        ),
        finish_reason=response.finish_reason,
        usage=Usage(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) if usage is not None else None,
        index=response.index,
        engine_seconds=response.engine_seconds,
        logprobs=tuple(
            TokenLogprob(each.token, each.logprob, tuple((top.token, top.logprob) for top in each.top))
            for each in response.logprobs
        ),
    )
