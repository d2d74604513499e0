"""Spans and W3C trace context: one trace id from the feedback event to the served token."""

import os
import random
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from contextvars import Token
from types import TracebackType

from opentelemetry import trace
from opentelemetry.context import Context, attach
from opentelemetry.trace import Link, NonRecordingSpan, ProxyTracer, Span, SpanContext, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from libs.contracts.errors import InvalidInput

# Ids must differ, not be secret: asking the kernel for each would cost more than the rest of a span. Not the library's
# common source: a training run seeds that one, and two runs would share their ids.
_IDS = random.Random()
os.register_at_fork(after_in_child=_IDS.seed)
_TRACEPARENT = re.compile(r"^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?$")


def valid_traceparent(value: str | None) -> bool:
    """Whether the value is a W3C `traceparent` that may be continued (Trace Context, section 3.2.2)."""
    return value is not None and _parse(value) is not None


def new_traceparent() -> str:
    """A fresh sampled `traceparent`: the start of a trace that no span has opened yet."""
    return f"00-{_drawn(128):032x}-{_drawn(64):016x}-01"


def trace_id(traceparent: str) -> str:
    """The 32 hex digits of the trace id. Raises InvalidInput on anything that is not a `traceparent`."""
    context = _parse(traceparent)
    if context is None:
        raise InvalidInput(f"{traceparent!r} is not a W3C traceparent", field="traceparent")
    return f"{context.trace_id:032x}"


def current_traceparent() -> str | None:
    """`traceparent` of the span this code runs in, or None outside of any span."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def span(
    name: str, *, parent: str | None = None, links: Sequence[str] = (), **attributes: AttributeValue | None
) -> AbstractContextManager[Span]:
    """Run the block in a span; `parent` and `links` are traceparents, an invalid one is ignored as W3C asks.

    Without `parent` the span continues the one around it, or starts a trace. Attributes that are None are left out.
    An exception marks the span failed and goes on. There is always a trace id, also before `setup` ran.
    """
    return _Block(name, _parse(parent) if parent else None, links, attributes)


class _Block(AbstractContextManager[Span]):
    # A class rather than a generator: every request opens some of these, recorded or not.
    __slots__ = ("_attributes", "_links", "_name", "_opened", "_parent", "_token")
    _opened: Span
    _token: "Token[Context]"

    def __init__(
        self,
        name: str,
        parent: SpanContext | None,
        links: Sequence[str],
        attributes: Mapping[str, AttributeValue | None],
    ) -> None:
        self._name = name
        self._parent = parent
        self._links = links
        self._attributes = attributes

    def __enter__(self) -> Span:
        self._opened = self._open()
        self._token = attach(trace.set_span_in_context(self._opened))
        return self._opened

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(failure, Exception):
            self._opened.record_exception(failure)
            self._opened.set_status(Status(StatusCode.ERROR, type(failure).__name__))
        # A suspended generator may be closed from another task: there is then nothing to restore, and the
        # library's own detach would log an error for it.
        with suppress(ValueError):
            self._token.var.reset(self._token)
        self._opened.end()

    def _open(self) -> Span:
        tracer = trace.get_tracer("pawl")
        if not isinstance(tracer, ProxyTracer):
            context = trace.set_span_in_context(NonRecordingSpan(self._parent)) if self._parent else None
            present = {key: value for key, value in self._attributes.items() if value is not None}
            links = [Link(target) for target in map(_parse, self._links) if target is not None]
            opened = tracer.start_span(self._name, context=context, attributes=present, links=links)
            if not isinstance(opened, NonRecordingSpan):
                return opened
            return NonRecordingSpan(_child_of(opened.get_span_context()))
        # Nobody records here. The trace still goes on, and this step of it still has an id of its own.
        return NonRecordingSpan(_child_of(self._parent or trace.get_current_span().get_span_context()))


def _parse(traceparent: str | None) -> SpanContext | None:
    match = _TRACEPARENT.match(traceparent) if traceparent else None
    if match is None or match[1] == "ff" or (match[1] == "00" and len(match[0]) != 55):
        return None
    context = SpanContext(
        int(match[2], 16), int(match[3], 16), is_remote=True, trace_flags=TraceFlags(int(match[4], 16) & 3)
    )
    return context if context.is_valid else None


def _child_of(parent: SpanContext) -> SpanContext:
    trace_number = parent.trace_id if parent.is_valid else _drawn(128)
    flags = parent.trace_flags if parent.is_valid else TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(trace_number, _drawn(64), is_remote=False, trace_flags=flags)


def _drawn(bits: int) -> int:
    while True:
        if number := _IDS.getrandbits(bits):
            return number
