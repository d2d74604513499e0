"""Prometheus metrics under one prefix, safe to ask for twice."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

PREFIX = "pawl_"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Buckets, in seconds, for anything a caller waits for."""

_KEPT = 4096

M = TypeVar("M", bound=MetricWrapperBase)


def counter(
    name: str, documentation: str, labels: Sequence[str] = (), *, registry: CollectorRegistry = REGISTRY
) -> Counter:
    """The counter `pawl_<name>` of the registry, made at first use (Prometheus adds `_total`)."""
    return _existing(registry, name, Counter) or Counter(_prefixed(name), documentation, labels, registry=registry)


def gauge(
    name: str, documentation: str, labels: Sequence[str] = (), *, registry: CollectorRegistry = REGISTRY
) -> Gauge:
    """The gauge `pawl_<name>` of the registry, made at first use."""
    return _existing(registry, name, Gauge) or Gauge(_prefixed(name), documentation, labels, registry=registry)


def histogram(
    name: str,
    documentation: str,
    labels: Sequence[str] = (),
    *,
    buckets: Sequence[float] = SECONDS,
    registry: CollectorRegistry = REGISTRY,
) -> Histogram:
    """The histogram `pawl_<name>` of the registry, made at first use; `buckets` are upper bounds."""
    existing = _existing(registry, name, Histogram)
    return existing or Histogram(_prefixed(name), documentation, labels, buckets=buckets, registry=registry)


def kept(metric: M) -> Callable[..., M]:
    """`metric.labels`, remembering the series of the last few thousand label values: finding one costs a tenth then."""
    return lru_cache(_KEPT)(metric.labels)


def _prefixed(name: str) -> str:
    return name if name.startswith(PREFIX) else PREFIX + name


def _existing(registry: CollectorRegistry, name: str, kind: type[M]) -> M | None:
    # The registry knows its collectors by name only in this mapping; asking twice would otherwise raise, and a
    # table of our own would be a second truth. A different kind under the name is left for the registry to refuse.
    found = registry._names_to_collectors.get(_prefixed(name).removesuffix("_total"))  # noqa: SLF001
    return found if isinstance(found, kind) else None
