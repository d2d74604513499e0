"""EngineService on the wire: translate only."""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, Protocol

import grpc

from libs.contracts.errors import DataLoss, FailedPrecondition, InvalidInput
from libs.contracts.inference import Message, ToolCall
from libs.contracts.stubs.pawl.serving.v1 import engine_pb2, engine_pb2_grpc, inference_pb2
from libs.telemetry import counter, histogram
from services.serving.engine.domain import Answer, Coalescer, Piece, Prompt, Residency, SamplingChoice, Vectors, Version

SERVICE = "pawl.serving.v1.EngineService"
_FEW = 16
"""Up to so many requests at once every piece travels on its own: then there is time for it."""
_Context = grpc.aio.ServicerContext[Any, Any]


class Generator(Protocol):
    """The model, as far as answers go."""

    @property
    def waiting(self) -> int:
        """Requests waiting for an adapter slot."""

    @property
    def running(self) -> int:
        """Requests that it works on."""

    def generate(
        self,
        request_id: str,
        prompt: Prompt,
        sampling: SamplingChoice,
        version: Version,
        *,
        priority: int = 0,
        with_logprobs: bool = False,
    ) -> AsyncGenerator[Piece, None]:
        """Pieces of an answer."""


class Embedder(Protocol):
    """The model, where it makes vectors."""

    async def embed(
        self, request_id: str, prompts: Sequence[Prompt], version: Version, *, priority: int = 0
    ) -> Vectors:
        """One vector for each prompt."""


class Renders(Protocol):
    """The base's tokenizer and template."""

    tokenizer_digest: str
    template_digest: str

    def render(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = (), *, salt: str = "") -> Prompt:
        """Messages to token ids."""

    def plain(self, text: str, *, salt: str = "") -> Prompt:
        """A text to token ids, as it stands."""


class EngineServicer(engine_pb2_grpc.EngineServiceServicer):
    """Answers of one base and its adapters; every message says by digest what made it."""

    def __init__(
        self,
        *,
        engine_id: str,
        base_digest: str,
        model: Generator,
        embedder: Embedder | None = None,
        renderer: Renders,
        residency: Residency,
        warm: Callable[[str], Awaitable[None]],
        coalesce_seconds: float,
        default_max_tokens: int,
    ) -> None:
        """`warm` has a cold version loaded; `default_max_tokens` is for requests that name no limit.

        With an `embedder` vectors are all that can be had.

        Under load the pieces of a stream that come within `coalesce_seconds` of one another travel together.
        """
        self._window = coalesce_seconds
        self._warm = warm
        self._engine_id = engine_id
        self._base_digest = base_digest
        self._model = model
        self._embedder = embedder
        self._renderer = renderer
        self._residency = residency
        self._default_max_tokens = default_max_tokens
        self._tokens = counter("engine_tokens", "Tokens in and out, by kind.", ("kind",))
        self._prompt_tokens = histogram(
            "engine_prompt_tokens", "Tokens per prompt.", buckets=(16, 64, 256, 1024, 4096, 16384, 65536)
        )

    async def Infer(  # noqa: N802 - the generated name
        self,
        request: engine_pb2.InferRequest,
        context: _Context,  # noqa: ARG002
    ) -> AsyncGenerator[engine_pb2.InferResponse, None]:
        """Stream an answer; the client's cancel aborts the generation."""
        if self._embedder is not None:
            raise FailedPrecondition("this engine makes vectors and generates nothing", reason="EMBEDS_ONLY")
        if not request.messages and not request.prompt:
            raise InvalidInput("there are no messages", field="messages")
        await self._warm(request.version_digest)
        with self._residency.use(request.version_digest) as version:
            prompt = self._prompt(request)
            answer = Answer(
                token_ids=[] if request.with_logprobs else None, logprobs=[] if request.with_logprobs else None
            )
            pieces = self._model.generate(
                request.request_id,
                prompt,
                self._sampling(request),
                version,
                priority=request.priority,
                with_logprobs=request.with_logprobs,
            )
            coalescer = Coalescer(lambda: self._window if self._model.running > _FEW else 0.0)
            async with aclosing(pieces):
                async for arrived in pieces:
                    piece = coalescer.feed(arrived)
                    if piece is None:
                        continue
                    if piece.adapter_name != version.name:
                        raise DataLoss(
                            f"asked for {version.name!r}, vLLM answered with {piece.adapter_name!r}",
                            reason="WRONG_VERSION",
                        )
                    answer.take(piece)
                    if piece.text or piece.finish_reason or piece.chances:
                        yield self._message(piece, version, prompt, answer)
        self._tokens.labels("prompt").inc(len(prompt.token_ids))
        self._tokens.labels("completion").inc(answer.completion_tokens)
        self._prompt_tokens.observe(len(prompt.token_ids))

    async def Embed(  # noqa: N802 - the generated name
        self,
        request: engine_pb2.EmbedRequest,
        context: _Context,  # noqa: ARG002
    ) -> engine_pb2.EmbedResponse:
        """One vector for each text."""
        if self._embedder is None:
            raise FailedPrecondition("this engine generates and makes no vectors", reason="EMBEDDINGS_NOT_SUPPORTED")
        await self._warm(request.version_digest)
        with self._residency.use(request.version_digest) as version:
            prompts = [self._renderer.plain(text) for text in request.texts]
            made = await self._embedder.embed(request.request_id, prompts, version, priority=request.priority)
        tokens = sum(len(each.token_ids) for each in prompts)
        self._tokens.labels("prompt").inc(tokens)
        return engine_pb2.EmbedResponse(
            vectors=[engine_pb2.Vector(values=each) for each in made.values],
            prompt_tokens=tokens,
            base_digest=self._base_digest,
            adapter_digest=version.adapter_digest,
            tokenizer_digest=self._renderer.tokenizer_digest,
            engine_seconds=made.engine_seconds,
        )

    async def GetEngine(  # noqa: N802 - the generated name
        self,
        request: engine_pb2.GetEngineRequest,  # noqa: ARG002
        context: _Context,  # noqa: ARG002
    ) -> engine_pb2.GetEngineResponse:
        """What is held and in use right now."""
        in_flight = self._residency.in_flight
        return engine_pb2.GetEngineResponse(
            engine_id=self._engine_id,
            base_digest=self._base_digest,
            routable=self._residency.routable,
            in_flight=in_flight,
            waiting=self._model.waiting,
            versions=[
                engine_pb2.VersionState(
                    digest=each.digest,
                    name=each.name,
                    number=each.number,
                    state=each.state,
                    pinned=each.pinned,
                    resident=each.resident,
                    in_flight=each.in_flight,
                    reason=each.reason,
                )
                for each in self._residency.standings()
            ],
        )

    def _prompt(self, request: engine_pb2.InferRequest) -> Prompt:
        if request.prompt:
            return self._renderer.plain(request.prompt, salt=request.cache_salt)
        messages = [
            Message(
                role=each.role,
                content=each.content,
                tool_calls=tuple(
                    ToolCall(id=call.id, name=call.name, arguments=call.arguments) for call in each.tool_calls
                ),
                tool_call_id=each.tool_call_id,
            )
            for each in request.messages
        ]
        try:
            tools = json.loads(request.tools_json or "[]")
        except ValueError as failure:
            raise InvalidInput(f"is not JSON: {failure}", field="tools") from failure
        return self._renderer.render(messages, tools, salt=request.cache_salt)

    def _sampling(self, request: engine_pb2.InferRequest) -> SamplingChoice:
        given = request.sampling
        return SamplingChoice(
            temperature=given.temperature if given.HasField("temperature") else 0.0,
            top_p=given.top_p if given.HasField("top_p") else 1.0,
            max_tokens=(given.max_tokens if given.HasField("max_tokens") else 0) or self._default_max_tokens,
            seed=given.seed if given.HasField("seed") else None,
            stop=tuple(given.stop),
            whole=request.whole,
            presence_penalty=given.presence_penalty,
            frequency_penalty=given.frequency_penalty,
            logit_bias=dict(given.logit_bias),
            n=given.n or 1,
            top_logprobs=given.top_logprobs if given.logprobs else None,
            json_schema=request.json_schema,
            json_object=request.json_object,
        )

    def _message(self, piece: Piece, version: Version, prompt: Prompt, answer: Answer) -> engine_pb2.InferResponse:
        message = engine_pb2.InferResponse(
            text_delta=piece.text,
            finish_reason=piece.finish_reason,
            base_digest=self._base_digest,
            adapter_digest=version.adapter_digest,
            tokenizer_digest=self._renderer.tokenizer_digest,
            template_digest=self._renderer.template_digest,
            index=piece.index,
            engine_seconds=piece.engine_seconds,
            logprobs=[
                inference_pb2.TokenLogprob(
                    token=each.text,
                    logprob=each.logprob,
                    top=[inference_pb2.TopToken(token=text, logprob=value) for text, value in each.top],
                )
                for each in piece.chances
            ],
        )
        if piece.finish_reason and piece.last:
            message.usage.prompt_tokens = len(prompt.token_ids)
            message.usage.completion_tokens = answer.completion_tokens
            message.usage.cached_tokens = piece.cached_tokens
            if answer.token_ids is not None:
                message.prompt_token_ids.extend(prompt.token_ids)
                message.output_token_ids.extend(answer.token_ids)
                message.output_logprobs.extend(answer.logprobs or ())
        return message


def register(server: Any, servicer: EngineServicer) -> None:
    """Add the servicer to a `GrpcServer`."""
    server.add(engine_pb2_grpc.add_EngineServiceServicer_to_server, servicer, SERVICE)
