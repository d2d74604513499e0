"""Spans and W3C trace context: one trace id from the feedback event to the served token."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from secrets import token_hex

from opentelemetry import trace
from opentelemetry.context import Context, attach
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from libs.contracts.errors import InvalidInput

_TRACEPARENT = re.compile(r"^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?$")


def valid_traceparent(value: str | None) -> bool:
    """Whether the value is a W3C `traceparent` that may be continued (Trace Context, section 3.2.2)."""
    return value is not None and _parse(value) is not None


def new_traceparent() -> str:
    """A fresh sampled `traceparent`: the start of a trace that no span has opened yet."""
    return f"00-{_nonzero(16)}-{_nonzero(8)}-01"


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


@contextmanager
def span(
    name: str, *, parent: str | None = None, links: Sequence[str] = (), **attributes: AttributeValue | None
) -> Iterator[Span]:
    """Run the block in a span; `parent` and `links` are traceparents, an invalid one is ignored as W3C asks.

    Without `parent` the span continues the one around it, or starts a trace. Attributes that are None are left out.
    An exception marks the span failed and goes on. There is always a trace id, also before `setup` ran.
    """
    parent_context = _parse(parent) if parent else None
    context = trace.set_span_in_context(NonRecordingSpan(parent_context)) if parent_context else None
    present = {key: value for key, value in attributes.items() if value is not None}
    linked = [Link(target) for target in map(_parse, links) if target is not None]
    opened = trace.get_tracer("pawl").start_span(name, context=context, attributes=present, links=linked)
    if isinstance(opened, NonRecordingSpan):
        # Nobody records here. The trace still goes on, and this step of it still has an id of its own.
        opened = NonRecordingSpan(_child_of(opened.get_span_context()))
    with _current(opened, context):
        try:
            yield opened
        except Exception as failure:
            opened.record_exception(failure)
            opened.set_status(Status(StatusCode.ERROR, type(failure).__name__))
            raise
        finally:
            opened.end()


@contextmanager
def _current(opened: Span, context: Context | None) -> Iterator[None]:
    token = attach(trace.set_span_in_context(opened, context))
    try:
        yield
    finally:
        # A suspended generator may be closed from another task: there is then nothing to restore, and the
        # library's own detach would log an error for it.
        with suppress(ValueError):
            token.var.reset(token)


def _parse(traceparent: str | None) -> SpanContext | None:
    match = _TRACEPARENT.match(traceparent) if traceparent else None
    if match is None or match[1] == "ff" or (match[1] == "00" and len(match[0]) != 55):
        return None
    context = SpanContext(
        int(match[2], 16), int(match[3], 16), is_remote=True, trace_flags=TraceFlags(int(match[4], 16) & 3)
    )
    return context if context.is_valid else None


def _nonzero(size: int) -> str:
    while True:
        drawn = token_hex(size)
        if int(drawn, 16):
            return drawn


def _child_of(parent: SpanContext) -> SpanContext:
    trace_number = parent.trace_id if parent.is_valid else int(_nonzero(16), 16)
    flags = parent.trace_flags if parent.is_valid else TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(trace_number, int(_nonzero(8), 16), is_remote=False, trace_flags=flags)
