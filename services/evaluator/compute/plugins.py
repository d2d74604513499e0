"""Metrics that a package installed beside the evaluator brings: entry points of the group `pawl.metrics`.

Each runs in a process of its own with a deadline for every score: a metric that hangs, crashes or prints costs the
score of one answer, never the report.
"""

import json
import math
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points
from types import TracebackType
from typing import Any, Self

from libs.contracts.errors import InvalidInput
from libs.contracts.task import MetricSpec
from libs.telemetry import get_logger
from services.evaluator.compute.plugin_host import GROUP
from services.evaluator.domain.metrics.core import Measure, Metric, Sample

log = get_logger(__name__)

SECONDS = 10.0
"""Deadline of one score where the task file names none."""
MOST_LOST = 5
"""A metric that ran out of time or died so often is given up: it would cost its deadline on every answer to come."""
_MAKE_SECONDS = 60.0
_OUR_OWN = "PAWL_"


class Stopped(Exception):
    """The metric's process ran out of time or ended; the message says which."""


class Plugins(Mapping[str, Callable[[MetricSpec], Metric]]):
    """What is installed, by name; leaving it ends every process that its metrics began.

    An entry point is a factory `(options: dict) -> scorer`, and a scorer `(answer, right answer, question) -> score in
    [0, 1]`; its attribute `signature` says what its value depends on.
    """

    def __init__(self) -> None:
        self._points = {point.name: point for point in entry_points(group=GROUP)}
        self._hosts: list[_Host] = []

    def __getitem__(self, name: str) -> Callable[[MetricSpec], Metric]:
        point = self._points[name]
        return lambda spec: self._made(point, spec)

    def __iter__(self) -> Iterator[str]:
        return iter(self._points)

    def __len__(self) -> int:
        return len(self._points)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for host in self._hosts:
            host.close()

    def _made(self, point: EntryPoint, spec: MetricSpec) -> Metric:
        host = _Host(point, spec)
        self._hosts.append(host)
        version = point.dist.version if point.dist is not None else "?"
        signature = f"plugin:{point.name}|{point.value}|{version}|{host.signature or sorted_options(spec)}"
        return Metric(spec.name, signature, host.measure)


class _Host:
    """The process of one metric, begun anew after it had to be ended."""

    def __init__(self, point: EntryPoint, spec: MetricSpec) -> None:
        self._point, self._spec = point, spec
        self._where = f"evaluation.metrics.{spec.name}"
        self._seconds = spec.seconds or SECONDS
        self._process: subprocess.Popen[bytes] | None = None
        self._read = b""
        self._lost = 0
        self.signature: str | None = None
        try:
            self._begin()
        except Stopped as error:
            raise self._unmade(str(error)) from error

    def measure(self, sample: Sample) -> Measure:
        """The score of one answer; InvalidInput where the metric has none to give."""
        name = self._spec.name
        if self._lost >= MOST_LOST:
            raise InvalidInput(
                f"metric {name!r} was given up: it had to be stopped on {MOST_LOST} answers", field=self._where
            )
        try:
            process = self._process or self._begin()
            _say(process, [sample.text, sample.reference, sample.question])
            told = self._hear(process, self._seconds)
        except Stopped as error:
            self._lost += 1
            self._end()
            log.warning("a metric was stopped", metric=name, reason=str(error), times=self._lost)
            raise InvalidInput(f"metric {name!r} {error}", field=self._where) from error
        if "error" in told:
            raise InvalidInput(f"metric {name!r} failed: {told['error']}", field=self._where)
        score = float(told["score"])
        if not (math.isfinite(score) and 0.0 <= score <= 1.0):
            raise InvalidInput(f"metric {name!r} scored {score}, which is not in [0, 1]", field=self._where)
        return Measure(score)

    def close(self) -> None:
        """End for good: a thread that still scores for a report that was given up must begin no other process."""
        self._lost = MOST_LOST
        self._end()

    def _end(self) -> None:
        process, self._process, self._read = self._process, None, b""
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):  # what was still to be written, nobody waits for
                        pipe.close()

    def _begin(self) -> "subprocess.Popen[bytes]":
        # The evaluator's own keys are none of a metric's business.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_OUR_OWN)}
        environment["PYTHONPATH"] = os.pathsep.join(place for place in sys.path if place)
        program = [sys.executable, "-m", "services.evaluator.compute.plugin_host", self._point.name]
        process = self._process = subprocess.Popen(
            [*program, json.dumps(self._spec.options or {})],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
        )  # fmt: skip
        told = self._hear(process, _MAKE_SECONDS)
        if "error" in told:
            raise self._unmade(told["error"])
        self.signature = told["signature"]
        return process

    def _unmade(self, why: str) -> InvalidInput:
        self._end()
        return InvalidInput(
            f"metric {self._point.name!r} ({self._point.value}) cannot be made: {why}", field=self._where
        )

    def _hear(self, process: "subprocess.Popen[bytes]", seconds: float) -> dict[str, Any]:
        """The next line. Raises Stopped when it does not come in time, or never will."""
        assert process.stdout is not None
        pipe, until = process.stdout.fileno(), time.monotonic() + seconds
        while b"\n" not in self._read:
            ready, _, _ = select.select([pipe], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise Stopped(f"took more than {seconds:g} s")
            piece = os.read(pipe, 1 << 16)
            if not piece:
                raise Stopped(f"ended with {process.wait()}")
            self._read += piece
        line, _, self._read = self._read.partition(b"\n")
        told: dict[str, Any] = json.loads(line)
        return told


def _say(process: "subprocess.Popen[bytes]", asked: list[str]) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        process.stdin.flush()
    except OSError as error:
        raise Stopped("ended without a word") from error


def sorted_options(spec: MetricSpec) -> str:
    """Options as part of a signature."""
    options: dict[str, Any] = spec.options or {}
    return ",".join(f"{name}={options[name]!r}" for name in sorted(options))
