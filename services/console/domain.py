"""What a page shows, worked out from what the services answered; pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from libs.contracts.events import TurnState

_ROAD = (
    TurnState.CURATING,
    TurnState.TRAINING,
    TurnState.LOADING,
    TurnState.EVALUATING,
    TurnState.AWAITING_APPROVAL,
    TurnState.SHADOW,
    TurnState.CANARY,
    TurnState.PROMOTED,
)
_BAD_ENDS = (TurnState.REFUSED, TurnState.ROLLED_BACK, TurnState.FAILED, TurnState.CANCELLED)
WIDTH, HEIGHT, EDGE = 320.0, 72.0, 4.0
"""Size of the sparkline's drawing, in its own units."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm of a route; `percent` is its share of user units."""

    name: str
    role: str
    percent: float
    digest: str


@dataclass(frozen=True, slots=True)
class Mile:
    """One state on a turn's road: `look` is done, now, bad or ahead."""

    state: str
    look: str
    at: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Sparkline:
    """A loss curve as the points of an SVG polyline in a box of WIDTH by HEIGHT, with words for who cannot see it."""

    points: str
    words: str
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and where it lies on a scale from 0 to 1, in per cent of the width."""

    value: float
    low: float
    high: float
    n: int
    left: float
    width: float
    point: float


@dataclass(frozen=True, slots=True)
class Report:
    """An evaluation report: a row of intervals per metric (and slice), a column per arm."""

    version: int
    verdict: str
    arms: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Interval | None, ...]], ...]
    gates: tuple[Mapping[str, Any], ...]
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """A run as last reported."""

    step: int
    total: int
    percent: float
    numbers: tuple[tuple[str, str], ...]
    sparkline: Sparkline | None = field(default=None)


def arms_of(task: str, route_json: str) -> tuple[Arm, ...]:
    """The arms of a route, in the route's order."""
    return tuple(
        Arm(f"{task}@{arm['version']}", arm["role"], 100 * float(arm["share"]), arm["digest"])
        for arm in parsed(route_json).get("arms", ())
    )


def road_of(steps: Iterable[tuple[str, str, datetime]], state: str) -> tuple[Mile, ...]:
    """Where a turn has been, where it is and what lies ahead of it, from its steps (state, reason, time)."""
    taken = list(steps)
    ended = state in (*_BAD_ENDS, TurnState.PROMOTED)
    miles: list[Mile] = []
    for position, (name, reason, at) in enumerate(taken):
        last = position == len(taken) - 1
        look = "bad" if name in _BAD_ENDS else ("now" if last and not ended else "done")
        miles.append(Mile(name, look, at, reason))
    if ended:
        return tuple(miles)
    here = _ROAD.index(TurnState(state)) if state in _ROAD else len(_ROAD)
    seen = {mile.state for mile in miles}
    ahead = [name for name in _ROAD[here + 1 :] if name not in seen and name is not TurnState.AWAITING_APPROVAL]
    return (*miles, *(Mile(name.value, "ahead") for name in ahead))


def trace_of(traceparent: str) -> str:
    """The trace id of a `traceparent`, empty when there is none."""
    parts = traceparent.split("-")
    return parts[1] if len(parts) == 4 else ""


def short(digest: str, length: int = 12) -> str:
    """A digest for the eye: the first hex digits."""
    return digest.removeprefix("sha256:")[:length]


def progress_of(progress_json: str) -> Progress | None:
    """The progress of a run; None before its first report."""
    told = parsed(progress_json)
    total = int(told.get("total_steps") or 0)
    if not total:
        return None
    step = int(told.get("step") or told.get("resumed_at_step") or 0)
    numbers = [
        (words, form.format(float(told[key])))
        for key, words, form in (
            ("loss", "loss", "{:.4f}"),
            ("learning_rate", "learning rate", "{:.2e}"),
            ("tokens_per_second", "tokens / s", "{:,.0f}"),
            ("eta_seconds", "seconds left", "{:,.0f}"),
            ("checkpoint_step", "checkpoint at step", "{:.0f}"),
            ("resumed_at_step", "resumed at step", "{:.0f}"),
            ("epoch", "attempt", "{:.0f}"),
        )
        if told.get(key)
    ]
    return Progress(step, total, min(100.0, 100 * step / total), tuple(numbers), sparkline(told.get("curve") or ()))


def sparkline(curve: Sequence[Sequence[float]]) -> Sparkline | None:
    """A loss curve of (step, loss) pairs; None with fewer than two finite points."""
    points = [(float(step), float(loss)) for step, loss in curve if abs(float(loss)) < 1e12]
    if len(points) < 2:
        return None
    first, last = points[0], points[-1]
    low, high = min(loss for _, loss in points), max(loss for _, loss in points)
    across, down = (last[0] - first[0]) or 1.0, (high - low) or 1.0
    drawn = " ".join(
        f"{EDGE + (step - first[0]) / across * (WIDTH - 2 * EDGE):.1f},"
        f"{EDGE + (high - loss) / down * (HEIGHT - 2 * EDGE):.1f}"
        for step, loss in points
    )
    words = f"loss from {first[1]:.3g} at step {first[0]:.0f} to {last[1]:.3g} at step {last[0]:.0f}"
    return Sparkline(drawn, words, first[1], last[1])


def report_of(evidence_json: str, version: int) -> Report | None:
    """The report among a version's evidence; None for a version that was never evaluated."""
    told = parsed(evidence_json).get("report")
    if not isinstance(told, dict):
        return None
    arms = told.get("arms") or {}
    names = tuple(sorted(arms, key=lambda arm: (arm != "base", arm != "stable", arm)))
    metrics = sorted({metric for arm in arms.values() for metric in arm})
    rows = [(metric, tuple(interval(arms[arm].get(metric)) for arm in names)) for metric in metrics]
    for slice_name, held in sorted((told.get("slices") or {}).items()):
        for metric in sorted({metric for arm in held.values() for metric in arm}):
            row = tuple(interval(held.get(arm, {}).get(metric)) for arm in names)
            rows.append((f"{metric} · {slice_name}", row))
    return Report(
        version, str(told.get("verdict", "")), names, tuple(rows), tuple(told.get("gates") or ()),
        str(told.get("report_digest", "")),
    )  # fmt: skip


def parsed(text: str) -> dict[str, Any]:
    """A JSON object, empty where there is none: a page shows what can be read of it."""
    try:
        told = json.loads(text or "{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def pretty(text: str) -> str:
    """JSON laid out for reading."""
    return json.dumps(parsed(text), indent=2, ensure_ascii=False)


def interval(told: Mapping[str, Any] | None) -> Interval | None:
    """An estimate (value, low, high, n) as it is drawn; None where there is none."""
    if told is None:
        return None
    value, low, high = float(told["value"]), float(told["low"]), float(told["high"])
    left, right = _percent(low), _percent(high)
    return Interval(value, low, high, int(told["n"]), left, max(right - left, 0.8), _percent(value))


def _percent(value: float) -> float:
    return round(100 * min(max(value, 0.0), 1.0), 2)
