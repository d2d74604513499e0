"""Logs, traces and metrics of every process: JSON on stderr, W3C trace context, Prometheus names."""

from libs.telemetry.logs import StructuredLogger, get_logger
from libs.telemetry.metrics import counter, gauge, histogram, kept
from libs.telemetry.setup import setup, shutdown
from libs.telemetry.traces import current_traceparent, new_traceparent, span, trace_id, valid_traceparent

__all__ = [
    "StructuredLogger",
    "counter",
    "current_traceparent",
    "gauge",
    "get_logger",
    "histogram",
    "kept",
    "new_traceparent",
    "setup",
    "shutdown",
    "span",
    "trace_id",
    "valid_traceparent",
]
