"""What happens around every call that a server of ours answers: trace, metrics, and the error tree made a status."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import grpc
from pydantic import ValidationError

from libs.contracts.errors import PawlError, Transient, Unavailable
from libs.runtime.grpc_errors import code_name, from_validation, to_status
from libs.telemetry import counter, current_traceparent, get_logger, histogram, span, valid_traceparent

log = get_logger(__name__)

_Context = grpc.aio.ServicerContext[Any, Any]
_Behaviour = Callable[[Any, _Context], Any]
if TYPE_CHECKING:
    _Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]
else:
    _Handler = grpc.RpcMethodHandler  # generic for the type checker only
_MAKERS: dict[tuple[bool, bool], Callable[..., Any]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
"""By (request streaming, response streaming)."""
# Asked every few seconds by machines, and open for as long as somebody watches.
_PLUMBING = ("/grpc.health.", "/grpc.reflection.")


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Runs every call in a span that continues the caller's trace, counts and times it, and maps what it raises."""

    def __init__(self) -> None:
        self._running = 0
        self._refusing = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._requests = counter("grpc_requests", "Calls answered, by method and status code.", ("method", "code"))
        self._seconds = histogram("grpc_request_seconds", "Time to answer a call, in seconds.", ("method",))

    async def idle(self) -> None:
        """Return when no call is running, health and reflection aside."""
        await self._idle.wait()

    def refuse(self) -> None:
        """From now on answer every new call that this server is going away."""
        self._refusing = True

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Wrap the handler of the method; an unknown method is left to the server."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_PLUMBING):
            return handler
        behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        if behaviour is None:
            return handler
        wrap = self._streaming if handler.response_streaming else self._single
        wrapped: _Handler = _MAKERS[handler.request_streaming, handler.response_streaming](
            wrap(method, cast("_Behaviour", behaviour)),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return wrapped

    def _single(self, method: str, behaviour: _Behaviour) -> Callable[[Any, _Context], Awaitable[Any]]:
        async def answer(request: Any, context: _Context) -> Any:
            async with self._around(method, context):
                return await behaviour(request, context)

        return answer

    def _streaming(self, method: str, behaviour: _Behaviour) -> Callable[[Any, _Context], Awaitable[None]]:
        # Written as a coroutine that writes, not as a generator: a call cancelled by its client is then cancelled
        # here, at once and in its own task, and the servicer's generator is closed before the span is.
        async def answer(request: Any, context: _Context) -> None:
            async with self._around(method, context):
                responses = behaviour(request, context)
                if not hasattr(responses, "__aiter__"):
                    await responses
                    return
                async with aclosing(responses):
                    async for response in responses:
                        await context.write(response)

        return answer

    @asynccontextmanager
    async def _around(self, method: str, context: _Context) -> AsyncIterator[None]:
        parent = _traceparent_of(context)
        self._running += 1
        self._idle.clear()
        # Not at the end of the handler: its answer has yet to be sent then.
        context.add_done_callback(cast("Any", self._done))  # a class to its type stub, any callable in truth
        began = time.perf_counter()
        failure: BaseException | None = None
        try:
            with span(f"grpc {method}", parent=parent, **{"rpc.system": "grpc", "rpc.method": method}):
                context.set_trailing_metadata((("traceparent", current_traceparent() or ""),))
                try:
                    if self._refusing:
                        raise Unavailable("this server is going away, ask another", reason="DRAINING")
                    yield
                except ValidationError as invalid:
                    failure = from_validation(invalid)
                except PawlError as known:
                    failure = known
                except (asyncio.CancelledError, grpc.aio.AbortError) as ended:
                    failure = ended
                    raise
                except Exception as unknown:  # process boundary: the caller learns no more than that it is our fault
                    log.exception("call failed", method=method)
                    failure = PawlError("internal error", reason="INTERNAL", trace=current_traceparent())
                    failure.__cause__ = unknown
                if isinstance(failure, PawlError):
                    if isinstance(failure, Transient):
                        log.warning("call refused", method=method, reason=failure.reason, why=str(failure))
                    await context.abort_with_status(to_status(failure))
        finally:
            self._requests.labels(method, code_name(failure)).inc()
            self._seconds.labels(method).observe(time.perf_counter() - began)

    def _done(self, _: Any) -> None:
        self._running -= 1
        if self._running == 0:
            self._idle.set()


def _traceparent_of(context: _Context) -> str | None:
    for key, value in context.invocation_metadata() or ():
        if key == "traceparent" and isinstance(value, str) and valid_traceparent(value):
            return value
    return None
