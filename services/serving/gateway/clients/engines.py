"""Engines over gRPC: one channel per address, kept; an answer comes as pieces with their proof."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing

import grpc

from libs.contracts.inference import Message, Provenance
from libs.contracts.stubs.pawl.serving.v1 import engine_pb2, engine_pb2_grpc, inference_pb2
from libs.runtime.grpc_client import channel, rpc_errors
from services.serving.gateway.clients.outside import OutsideCalls, OutsideServer
from services.serving.gateway.domain import Chunk, Embedded, Inquiry, TokenLogprob, Usage


class Engines:
    """Calls to engines; counts what is in flight per address."""

    def __init__(self, outside: Iterable[OutsideServer] = ()) -> None:
        """`outside`: servers of somebody else's, asked at their own addresses."""
        self._outside = {each.url: OutsideCalls(each) for each in outside}
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._stubs: dict[str, engine_pb2_grpc.EngineServiceAsyncStub] = {}
        self._in_flight: dict[str, int] = {}

    def in_flight(self) -> dict[str, int]:
        """Calls running now, by address."""
        return self._in_flight

    async def infer(self, address: str, inquiry: Inquiry) -> AsyncGenerator[Chunk, None]:
        """Pieces of an answer; closing the iterator cancels the call, which aborts the generation.

        Raises Unavailable when the engine is away or the time is over, and whatever the engine refuses.
        """
        self._in_flight[address] = self._in_flight.get(address, 0) + 1
        call = None
        try:
            if address in self._outside:
                async with aclosing(self._outside[address].infer(inquiry)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                return
            with rpc_errors():
                call = self._stub(address).Infer(_request(inquiry), timeout=inquiry.timeout)
                async for response in call:
                    yield _chunk(response)
        finally:
            if call is not None:
                call.cancel()
            self._in_flight[address] -= 1
            if not self._in_flight[address]:
                del self._in_flight[address]

    async def embed(self, address: str, digest: str, texts: Sequence[str], timeout: float) -> Embedded:
        """One vector for each text, from a server that makes them. Raises Unavailable and what the server refuses."""
        self._in_flight[address] = self._in_flight.get(address, 0) + 1
        try:
            return await self._outside[address].embed(digest, texts, timeout)
        finally:
            self._in_flight[address] -= 1
            if not self._in_flight[address]:
                del self._in_flight[address]

    async def keep(self, addresses: set[str]) -> None:
        """Close channels to addresses that no report names any more and no call uses."""
        for address in [each for each in self._channels if each not in addresses and each not in self._in_flight]:
            del self._stubs[address]
            await self._channels.pop(address).close()

    async def close(self) -> None:
        """Close every channel."""
        self._stubs.clear()
        for each in self._outside.values():
            await each.close()
        while self._channels:
            await self._channels.popitem()[1].close()

    def _stub(self, address: str) -> "engine_pb2_grpc.EngineServiceAsyncStub":
        stub = self._stubs.get(address)
        if stub is None:
            opened = self._channels[address] = channel(address)
            stub = self._stubs[address] = engine_pb2_grpc.EngineServiceStub(opened)
        return stub


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
        usage=Usage(usage.prompt_tokens, usage.completion_tokens) if usage is not None else None,
        index=response.index,
        engine_seconds=response.engine_seconds,
        logprobs=tuple(
            TokenLogprob(each.token, each.logprob, tuple((top.token, top.logprob) for top in each.top))
            for each in response.logprobs
        ),
    )
