"""Routes of the HTTP door: translate only."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route as Path

from libs.contracts.errors import InvalidInput, NotFound, PawlError
from libs.contracts.ids import new_id
from libs.contracts.subjects import version_name
from libs.telemetry import current_traceparent, get_logger, span, trace_id
from services.serving.gateway.domain import (
    AUTO_MODEL,
    Answers,
    Caller,
    Chunk,
    Deadline,
    FeedbackDoor,
    Generation,
    Query,
    Tables,
    choose,
    parse_model,
    served_versions,
)
from services.serving.gateway.http.answers import (
    ChatShape,
    Shape,
    TextShape,
    completion,
    embeddings,
    model_card,
    sse,
    stream_chunk,
    usage_chunk,
)
from services.serving.gateway.http.errors import body_of, response_of
from services.serving.gateway.http.openapi import document
from services.serving.gateway.http.requests import ChatRequest, CompletionRequest, EmbeddingRequest, parse

log = get_logger(__name__)

T = TypeVar("T")
_Handler = Callable[[Request], Coroutine[Any, Any, Response]]
_CLIENT_CLOSED = 499


class HttpDoor:
    """OpenAI's endpoints, routing explained, feedback and a health page. `request_seconds` bounds one answer."""

    def __init__(
        self,
        *,
        tables: Tables,
        answers: Answers,
        feedback: FeedbackDoor,
        request_seconds: float,
        max_body_bytes: int,
    ) -> None:
        self._tables = tables
        self._answers = answers
        self._feedback = feedback
        self._request_seconds = request_seconds
        self._max_body_bytes = max_body_bytes
        self.app = Starlette(
            routes=[
                Path("/healthz", _healthz),
                Path("/openapi.json", _openapi),
                Path("/v1/models", self._guarded(self._models)),
                Path("/v1/models/{model}", self._guarded(self._model)),
                Path("/v1/chat/completions", self._guarded(self._chat), methods=["POST"]),
                Path("/v1/completions", self._guarded(self._complete), methods=["POST"]),
                Path("/v1/embeddings", self._guarded(self._embed), methods=["POST"]),
                Path("/v1/route", self._guarded(self._explain)),
                Path("/v1/feedback", self._guarded(self._publish), methods=["POST"]),
            ],
            exception_handlers={404: _no_such_page, 405: _no_such_page},
        )

    def _guarded(self, handler: _Handler) -> _Handler:
        async def endpoint(request: Request) -> Response:
            with span(f"http {request.url.path}", parent=request.headers.get("traceparent")):
                headers = {"x-pawl-trace-id": trace_id(current_traceparent() or "")}
                try:
                    response = await handler(request)
                except PawlError as failure:
                    return response_of(failure, headers)
                except ClientDisconnect:
                    return Response(status_code=_CLIENT_CLOSED)
                except Exception:  # process boundary: the caller learns no more than that it is our fault
                    log.exception("request failed", path=request.url.path)
                    return response_of(PawlError("internal error"), headers)
                response.headers.update(headers)
                return response

        return endpoint

    async def _models(self, request: Request) -> Response:
        caller = self._caller(request)
        cards = []
        for route in self._tables.routes(caller.tenant):
            if not caller.may_ask(route.task):
                continue
            cards.append(model_card(route, None))
            cards.extend(model_card(route, arm) for arm in served_versions(route))
        return JSONResponse({"object": "list", "data": cards})

    async def _model(self, request: Request) -> Response:
        caller = self._caller(request)
        target = parse_model(request.path_params["model"])
        caller.entitled(target.task)
        route = self._tables.route(caller.tenant, target.task)
        arm = None if target.version is None else choose(route, target, "", caller.roles).arm
        return JSONResponse(model_card(route, arm))

    async def _chat(self, request: Request) -> Response:
        return await self._answer(request, ChatRequest, ChatShape())

    async def _complete(self, request: Request) -> Response:
        return await self._answer(request, CompletionRequest, TextShape())

    async def _answer(self, request: Request, kind: type[ChatRequest | CompletionRequest], shape: Shape) -> Response:
        caller = self._caller(request)
        purpose = caller.purpose(request.headers.get("x-pawl-purpose", ""))
        asked = parse(kind, await self._body(request))
        query = asked.query(request.headers, request.headers.get("x-pawl-request-id") or new_id("req"), purpose)
        created = int(time.time())
        deadline = Deadline(time.monotonic() + self._seconds(request))
        if asked.stream:
            pieces = self._answers.answer(caller, query, deadline)
            return await _streamed(request, pieces, shape, created, wants_usage=asked.wants_usage)
        generation, chunk = await _unless_gone(request, self._answers.whole(caller, query, deadline))
        return JSONResponse(completion(shape, generation, chunk, created), headers=_headers(generation))

    def _seconds(self, request: Request) -> float:
        """The deadline a client asks for in `x-pawl-timeout` (seconds), within the gateway's own."""
        said = request.headers.get("x-pawl-timeout", "")
        if not said:
            return self._request_seconds
        try:
            seconds = float(said)
        except ValueError:
            seconds = 0.0
        if not seconds > 0:
            raise InvalidInput(f"{said[:40]!r} is not a number of seconds above 0", field="x-pawl-timeout")
        return min(seconds, self._request_seconds)

    async def _embed(self, request: Request) -> Response:
        caller = self._caller(request)
        caller.purpose("")
        asked = parse(EmbeddingRequest, await self._body(request))
        deadline = Deadline(time.monotonic() + self._seconds(request))
        request_id = request.headers.get("x-pawl-request-id") or new_id("req")
        work = self._answers.embed(caller, asked.model, asked.texts(), asked.user or "", request_id, deadline)
        digest, found = await _unless_gone(request, work)
        return JSONResponse(embeddings(asked.model, digest, found, base64=asked.encoding_format == "base64"))

    async def _explain(self, request: Request) -> Response:
        caller = self._caller(request)
        said = request.query_params
        facts = {name: said[name] for name in ("task_type", "domain") if name in said}
        query = Query(
            said.get("model", AUTO_MODEL),
            (),
            new_id("req"),
            user=said.get("user", ""),
            segment=said.get("segment", ""),
            facts={**request.headers, **facts},
        )
        told = self._answers.explain(caller, query)
        return JSONResponse(
            {
                "model_version": version_name(told.route.task, told.choice.arm.version),
                "role": told.choice.arm.role.value,
                "reason": told.reason,
                "assignment": told.assignment,
                "canary_share": told.canary_share,
                "route_generation": told.route.generation,
                "rules": [
                    {"rule": each.rule, "holds": each.holds, "why": each.why} for each in told.resolution.outcomes
                ],
                "engines": list(told.engines),
            }
        )

    async def _publish(self, request: Request) -> Response:
        caller = self._caller(request)
        try:
            held = json.loads(await self._body(request))
        except (ValueError, RecursionError) as failure:
            raise InvalidInput(f"the body is not JSON: {failure}") from failure
        events, many = (held, True) if isinstance(held, list) else ([held], False)
        task = request.query_params.get("task") or request.headers.get("x-pawl-task", "")
        if not task and events and isinstance(events[0], dict):
            task = str(events[0].get("task", ""))
        if not task:
            raise InvalidInput("name the task: in the body, as ?task= or in the header x-pawl-task", field="task")
        for number, event in enumerate(events):
            if not isinstance(event, dict) or event.get("task", task) != task:
                raise InvalidInput("must be an object of the same task", field=f"{number}" if many else None)
        documents = [json.dumps(event).encode() for event in events]
        sequences = await self._feedback.publish(caller, task, documents, "events" if many else "")
        return JSONResponse({"accepted": len(sequences), "task": task, "sequences": sequences}, status_code=202)

    def _caller(self, request: Request) -> Caller:
        return self._tables.caller(request.headers.get("authorization", ""))

    async def _body(self, request: Request) -> bytes:
        held = bytearray()
        async for part in request.stream():
            held += part
            if len(held) > self._max_body_bytes:
                raise InvalidInput(f"the body has more than {self._max_body_bytes} bytes", reason="BODY_TOO_LARGE")
        return bytes(held)


async def _streamed(
    request: Request,
    pieces: AsyncGenerator[tuple[Generation, Chunk], None],
    shape: Shape,
    created: int,
    *,
    wants_usage: bool,
) -> StreamingResponse:
    """Wait for the first piece, so that what fails before it fails with a status, then stream."""
    first = await _unless_gone(request, _first(pieces))

    async def events() -> AsyncGenerator[bytes, None]:
        generation, chunk = first
        begun = {chunk.index}
        async with aclosing(pieces):
            yield sse(stream_chunk(shape, generation, chunk, created, first=True, wants_usage=wants_usage))
            try:
                async for generation, chunk in pieces:
                    fresh = chunk.index not in begun
                    begun.add(chunk.index)
                    yield sse(stream_chunk(shape, generation, chunk, created, first=fresh, wants_usage=wants_usage))
            except PawlError as failure:
                yield sse(body_of(failure))
                return
            if wants_usage:
                yield sse(usage_chunk(shape, generation, chunk, created))
            yield b"data: [DONE]\n\n"

    headers = {**_headers(first[0]), "cache-control": "no-cache", "x-accel-buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


async def _first(pieces: AsyncGenerator[T, None]) -> T:
    return await anext(pieces)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client hangs up: nobody would read it."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(gone())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            with suppress(asyncio.CancelledError, PawlError):
                await working


def _headers(generation: Generation) -> dict[str, str]:
    return {"x-pawl-model-version": generation.version, "x-pawl-request-id": generation.request_id}


async def _healthz(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _openapi(_: Request) -> Response:
    return JSONResponse(document())


async def _no_such_page(request: Request, _: Exception) -> Response:
    return response_of(NotFound(f"there is no {request.method} {request.url.path}", reason="UNKNOWN_URL"))
