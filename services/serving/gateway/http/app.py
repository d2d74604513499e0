"""Routes of the HTTP door: translate only."""

import json
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as Path
from starlette.types import Receive, Scope, Send

from libs.contracts.errors import InvalidInput, NotFound, PawlError
from libs.contracts.ids import new_id
from libs.contracts.subjects import version_name
from libs.telemetry import get_logger, span
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
from services.serving.gateway.http.errors import error_of, response_of
from services.serving.gateway.http.exchange import EventStream, body_of, headers_of, json_response, unless_gone
from services.serving.gateway.http.openapi import document
from services.serving.gateway.http.requests import ChatRequest, CompletionRequest, EmbeddingRequest, parse

log = get_logger(__name__)

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
        # What users wait for goes past the framework's middleware and router: they cost as much as all else here.
        self._hot = {
            "/v1/chat/completions": self._guarded(self._chat),
            "/v1/completions": self._guarded(self._complete),
        }
        self._pages = Starlette(
            routes=[
                Path("/healthz", _healthz),
                Path("/openapi.json", _openapi),
                Path("/v1/models", self._guarded(self._models)),
                Path("/v1/models/{model}", self._guarded(self._model)),
                Path("/v1/embeddings", self._guarded(self._embed), methods=["POST"]),
                Path("/v1/route", self._guarded(self._explain)),
                Path("/v1/feedback", self._guarded(self._publish), methods=["POST"]),
            ],
            exception_handlers={404: _no_such_page, 405: _no_such_page},
        )

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        endpoint = self._hot.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if endpoint is None:
            await self._pages(scope, receive, send)
            return
        response = await endpoint(Request(scope, receive))
        await response(scope, receive, send)

    def _guarded(self, handler: _Handler) -> _Handler:
        async def endpoint(request: Request) -> Response:
            path = request.scope["path"]
            with span(f"http {path}", parent=request.headers.get("traceparent")) as opened:
                traced = b"%032x" % opened.get_span_context().trace_id
                try:
                    response = await handler(request)
                except PawlError as failure:
                    response = response_of(failure)
                except ClientDisconnect:
                    return Response(status_code=_CLIENT_CLOSED)
                except Exception:  # process boundary: the caller learns no more than that it is our fault
                    log.exception("request failed", path=path)
                    response = response_of(PawlError("internal error"))
                response.raw_headers.append((b"x-pawl-trace-id", traced))
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
        return json_response({"object": "list", "data": cards})

    async def _model(self, request: Request) -> Response:
        caller = self._caller(request)
        target = parse_model(request.path_params["model"])
        caller.entitled(target.task)
        route = self._tables.route(caller.tenant, target.task)
        arm = None if target.version is None else choose(route, target, "", caller.roles).arm
        return json_response(model_card(route, arm))

    async def _chat(self, request: Request) -> Response:
        return await self._answer(request, ChatRequest, ChatShape())

    async def _complete(self, request: Request) -> Response:
        return await self._answer(request, CompletionRequest, TextShape())

    async def _answer(self, request: Request, kind: type[ChatRequest | CompletionRequest], shape: Shape) -> Response:
        headers = headers_of(request)
        caller = self._tables.caller(headers.get("authorization", ""))
        purpose = caller.purpose(headers.get("x-pawl-purpose", ""))
        asked = parse(kind, await body_of(request, self._max_body_bytes))
        query = asked.query(headers, headers.get("x-pawl-request-id") or new_id("req"), purpose)
        created = int(time.time())
        deadline = self._deadline(headers)
        if asked.stream:
            pieces = self._answers.answer(caller, query, deadline)
            return await _streamed(request, pieces, shape, created, wants_usage=asked.wants_usage)
        generation, chunk = await unless_gone(request.receive, self._answers.whole(caller, query, deadline))
        return json_response(completion(shape, generation, chunk, created), headers=_headers(generation))

    def _deadline(self, headers: Mapping[str, str]) -> Deadline:
        """The deadline a client asks for in `x-pawl-timeout` (seconds), within the gateway's own."""
        seconds, said = self._request_seconds, headers.get("x-pawl-timeout", "")
        if said:
            try:
                seconds = min(seconds, float(said))
            except ValueError:
                seconds = 0.0
            if not seconds > 0:
                raise InvalidInput(f"{said[:40]!r} is not a number of seconds above 0", field="x-pawl-timeout")
        return Deadline(time.monotonic() + seconds)

    async def _embed(self, request: Request) -> Response:
        caller, headers = self._caller(request), headers_of(request)
        purpose = caller.purpose(headers.get("x-pawl-purpose", ""))
        asked = parse(EmbeddingRequest, await body_of(request, self._max_body_bytes))
        query = asked.query(headers, headers.get("x-pawl-request-id") or new_id("req"), purpose)
        work = self._answers.embed(caller, query, asked.texts(), self._deadline(headers))
        generation, found = await unless_gone(request.receive, work)
        packed = asked.encoding_format == "base64"
        return json_response(embeddings(generation, found, base64=packed), headers=_headers(generation))

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
        return json_response(
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
            held = json.loads(await body_of(request, self._max_body_bytes))
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
        return json_response({"accepted": len(sequences), "task": task, "sequences": sequences}, status=202)

    def _caller(self, request: Request) -> Caller:
        return self._tables.caller(request.headers.get("authorization", ""))


async def _streamed(
    request: Request,
    pieces: AsyncGenerator[tuple[Generation, Chunk], None],
    shape: Shape,
    created: int,
    *,
    wants_usage: bool,
) -> Response:
    """Wait for the first piece, so that what fails before it fails with a status, then stream."""
    first = await unless_gone(request.receive, _first(pieces))

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
                yield sse(error_of(failure))
                return
            if wants_usage:
                yield sse(usage_chunk(shape, generation, chunk, created))
            yield b"data: [DONE]\n\n"

    return EventStream(events(), _headers(first[0]))


async def _first(pieces: AsyncGenerator[tuple[Generation, Chunk], None]) -> tuple[Generation, Chunk]:
    return await anext(pieces)


def _headers(generation: Generation) -> dict[str, str]:
    return {"x-pawl-model-version": generation.version, "x-pawl-request-id": generation.request_id}


async def _healthz(_: Request) -> Response:
    return json_response({"status": "ok"})


async def _openapi(_: Request) -> Response:
    return json_response(document())


async def _no_such_page(request: Request, _: Exception) -> Response:
    return response_of(NotFound(f"there is no {request.method} {request.url.path}", reason="UNKNOWN_URL"))
