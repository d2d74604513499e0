"""One trace from the first event to the last token."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from libs.contracts.errors import InvalidInput
from libs.telemetry import (
    counter,
    current_traceparent,
    gauge,
    histogram,
    new_traceparent,
    span,
    trace_id,
    valid_traceparent,
)

UPSTREAM = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ReadableSpan]]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    finished: list[ReadableSpan] = []
    monkeypatch.setattr(exporter, "_finished_spans", finished)
    yield finished
    provider.shutdown()


def test_a_span_continues_the_trace_it_is_given() -> None:
    with span("handle", parent=UPSTREAM):
        within = current_traceparent()
    assert within is not None
    assert trace_id(within) == trace_id(UPSTREAM)
    assert current_traceparent() is None


def test_there_is_a_trace_id_also_without_a_collector_and_without_a_parent() -> None:
    with span("first"):
        outer = current_traceparent()
        with span("second"):
            inner = current_traceparent()
    assert outer is not None
    assert inner is not None
    assert trace_id(outer) == trace_id(inner)
    assert outer != inner


def test_a_parent_that_is_no_traceparent_starts_a_new_trace() -> None:
    for bad in (
        "",
        "x",
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        "ff" + UPSTREAM[2:],
        UPSTREAM + "-x",
        UPSTREAM.upper(),
    ):
        assert not valid_traceparent(bad)
        with span("handle", parent=bad):
            fresh = current_traceparent()
            assert fresh is not None
            assert valid_traceparent(fresh)
        with pytest.raises(InvalidInput):
            trace_id(bad)
    assert valid_traceparent("cc" + UPSTREAM[2:] + "-what-the-future-adds")


def test_a_new_traceparent_is_valid_sampled_and_never_the_same() -> None:
    made = {new_traceparent() for _ in range(100)}
    assert len(made) == 100
    assert all(valid_traceparent(each) and each.endswith("-01") for each in made)


def test_spans_record_parent_links_attributes_and_failure(spans: list[ReadableSpan]) -> None:
    other = new_traceparent()
    with pytest.raises(KeyError), span("handle", parent=UPSTREAM, links=[other, "not one"], rows=3, task=None):
        raise KeyError("gone")
    (recorded,) = spans
    assert recorded.parent is not None
    assert f"{recorded.parent.span_id:016x}" == UPSTREAM.split("-")[2]
    assert [f"{link.context.trace_id:032x}" for link in recorded.links] == [trace_id(other)]
    assert dict(recorded.attributes or {}) == {"rows": 3}
    assert (recorded.status.description, recorded.events[0].name) == ("KeyError", "exception")


async def test_tasks_that_run_at_once_keep_their_traces_apart() -> None:
    async def work(parent: str) -> str | None:
        with span("work", parent=parent):
            await asyncio.sleep(0.01)
            return current_traceparent()

    parents = [new_traceparent() for _ in range(20)]
    seen = await asyncio.gather(*(work(parent) for parent in parents))
    assert [trace_id(each or "") for each in seen] == [trace_id(parent) for parent in parents]


async def test_a_generator_closed_from_another_task_makes_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    async def tokens() -> AsyncIterator[int]:
        with span("generate"):
            yield 1
            yield 2

    stream = tokens()
    await anext(stream)

    async def close() -> None:
        await stream.aclose()  # type: ignore[attr-defined]

    await asyncio.create_task(close())
    assert caplog.records == []


def test_a_metric_may_be_asked_for_twice_and_has_the_prefix() -> None:
    registry = CollectorRegistry()
    for _ in range(2):
        counter("feedback", "Feedback taken.", ["door"], registry=registry).labels("grpc").inc()
        counter("rows_total", "Rows.", registry=registry).inc()
        gauge("lag", "Lag.", registry=registry).set(4)
        histogram("wait_seconds", "Waiting.", registry=registry).observe(0.2)
    assert registry.get_sample_value("pawl_feedback_total", {"door": "grpc"}) == 2
    assert registry.get_sample_value("pawl_rows_total") == 2
    assert registry.get_sample_value("pawl_lag") == 4
    assert registry.get_sample_value("pawl_wait_seconds_count") == 2


def test_a_metric_of_another_kind_under_the_name_is_refused() -> None:
    registry = CollectorRegistry()
    gauge("lag", "Lag.", registry=registry)
    with pytest.raises(ValueError, match="Duplicated"):
        histogram("lag", "Lag.", registry=registry)
