"""Turn telemetry on for a process: JSON logs, and spans exported where a collector is configured."""

from opentelemetry import trace

from libs.telemetry import logs


def setup(service: str, *, level: str = "INFO", otlp_endpoint: str | None = None, sample_ratio: float = 1.0) -> None:
    """Configure logs and, where there is a collector, the tracer provider; a second call changes the logs only.

    `otlp_endpoint` is the base address of an OTLP/HTTP collector (`http://host:4318`). Without one nothing is
    recorded, which costs less than half, and trace ids still go from process to process. `sample_ratio` is the
    share of traces started here that are exported; the caller's decision is kept for traces that it started.
    Raises InvalidInput on an unknown level.
    """
    logs.configure(service, level)
    if not otlp_endpoint:
        return
    # Imported here because a process without a collector, or a client library, does without the SDK.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return
    resource = Resource.create({"service.name": service, "service.namespace": "pawl"})
    sampler = ParentBased(TraceIdRatioBased(sample_ratio))
    provider = TracerProvider(resource=resource, sampler=sampler, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{otlp_endpoint.rstrip('/')}/v1/traces", timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def shutdown() -> None:
    """Send what is still buffered; at most a few seconds when the collector is away."""
    flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if flush is not None:
        flush(timeout_millis=2000)
