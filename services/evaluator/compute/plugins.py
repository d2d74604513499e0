"""Metrics that a package installed beside the evaluator brings: entry points of the group `pawl.metrics`."""

import math
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from libs.contracts.errors import InvalidInput
from libs.contracts.task import MetricSpec
from services.evaluator.domain.metrics.core import Measure, Metric, Sample

GROUP = "pawl.metrics"

Scorer = Callable[[str, str, str], float]
"""`(answer, right answer, question) -> score in [0, 1]`; attribute `signature` says what its value depends on."""


def installed() -> dict[str, Callable[[MetricSpec], Metric]]:
    """What is installed, by name. An entry point is a factory: `(options: dict) -> Scorer`."""
    return {point.name: _maker(point) for point in entry_points(group=GROUP)}


def _maker(point: EntryPoint) -> Callable[[MetricSpec], Metric]:
    def make(spec: MetricSpec) -> Metric:
        where = f"evaluation.metrics.{spec.name}"
        try:
            scorer: Scorer = point.load()(dict(spec.options or {}))
        except Exception as error:
            raise InvalidInput(
                f"metric {point.name!r} ({point.value}) cannot be made: {error!r}", field=where
            ) from error
        version = point.dist.version if point.dist is not None else "?"
        signature = f"plugin:{point.name}|{point.value}|{version}|{getattr(scorer, 'signature', sorted_options(spec))}"

        def measure(sample: Sample) -> Measure:
            try:
                score = float(scorer(sample.text, sample.reference, sample.question))
            except Exception as error:
                raise InvalidInput(f"metric {spec.name!r} failed: {error!r}", field=where) from error
            if not (math.isfinite(score) and 0.0 <= score <= 1.0):
                raise InvalidInput(f"metric {spec.name!r} scored {score}, which is not in [0, 1]", field=where)
            return Measure(score)

        return Metric(spec.name, signature, measure)

    return make


def sorted_options(spec: MetricSpec) -> str:
    """Options as part of a signature."""
    options: dict[str, Any] = spec.options or {}
    return ",".join(f"{name}={options[name]!r}" for name in sorted(options))
