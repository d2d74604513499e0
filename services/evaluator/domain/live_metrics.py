"""What production shows per version and segment: rates and means whose unit is the user, quantiles of latency."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from libs.contracts.estimates import Estimate
from libs.statistics.means import mean_estimate, open_mean
from libs.statistics.sequences import quantile_sequence

ALL = "all"
_MOST_SEGMENTS = 20


@dataclass(frozen=True, slots=True)
class Served:
    """One request as it finally stood (of several tries the one that was answered), with what was said of it.

    `bad` and `good` are whether feedback said so, `escalated` whether it went on to a person.
    """

    version: int
    role: str
    unit: str
    segment: str | None
    failed: bool
    whole: bool
    valid: bool | None
    refused: bool
    latency_ms: float
    first_token_ms: float
    output_chars: int
    completion_tokens: int
    good: bool
    bad: bool
    escalated: bool


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A shadow answer beside the stable one it mirrors."""

    segment: str | None
    unit: str
    same: bool
    stable_ms: float
    shadow_ms: float
    stable_chars: int
    shadow_chars: int


def metrics_of(served: Sequence[Served]) -> list[dict[str, Any]]:
    """One entry per version and role, newest version first, each with a line for all and one per segment."""
    by_arm: dict[tuple[int, str], list[Served]] = {}
    for each in served:
        by_arm.setdefault((each.version, each.role), []).append(each)
    told = []
    for (version, role), rows in sorted(by_arm.items(), reverse=True):
        named = Counter(each.segment for each in rows if each.segment).most_common(_MOST_SEGMENTS)
        lines = {ALL: _line(rows)}
        if len(named) > 1 or (named and named[0][1] < len(rows)):
            lines |= {name: _line([each for each in rows if each.segment == name]) for name, _ in named}
        told.append({"version": version, "role": role, "segments": lines})
    return told


def shadow_of(pairs: Sequence[Mirrored]) -> dict[str, Any] | None:
    """The paired comparison of shadow and stable answers to the same requests; None without any."""
    if not pairs:
        return None
    units = [each.unit for each in pairs]
    ratios = [math.log(each.shadow_ms / each.stable_ms) for each in pairs if min(each.shadow_ms, each.stable_ms) > 0.0]
    timed = [each.unit for each in pairs if min(each.shadow_ms, each.stable_ms) > 0.0]
    slower = open_mean(ratios, timed) if ratios else None
    longer = open_mean([float(each.shadow_chars - each.stable_chars) for each in pairs], units)
    return {
        "pairs": len(pairs),
        "same_answer": mean_estimate([float(each.same) for each in pairs], units).model_dump(),
        "latency_ratio": _exp(slower).model_dump() if slower is not None else None,
        "longer_by_chars": longer.model_dump() if longer is not None else None,
    }


def _line(rows: Sequence[Served]) -> dict[str, Any]:
    whole = [each for each in rows if each.whole]
    judged = [each for each in rows if each.good or each.bad]
    checked = [each for each in whole if each.valid is not None]
    length = open_mean([float(each.output_chars) for each in whole], [each.unit for each in whole])
    return {
        "requests": len(rows),
        "users": len({each.unit for each in rows}),
        "feedback": len(judged),
        # Who complains and praises stands for one answer: if anybody called it bad, it was.
        "satisfaction": _rate([not each.bad for each in judged], judged),
        "errors": _rate([each.failed for each in rows], rows),
        "escalations": _rate([each.escalated for each in rows], rows),
        "refusals": _rate([each.refused for each in whole], whole),
        "invalid": _rate([each.valid is False for each in checked], checked),
        "latency_p50_ms": _quantile([each.latency_ms for each in whole], 0.5),
        "latency_p95_ms": _quantile([each.latency_ms for each in whole], 0.95),
        "first_token_p50_ms": _quantile([each.first_token_ms for each in whole], 0.5),
        "output_chars": length.model_dump() if length is not None else None,
    }


def _rate(values: Sequence[bool], rows: Sequence[Served]) -> dict[str, Any] | None:
    if not values:
        return None
    return mean_estimate([float(value) for value in values], [each.unit for each in rows]).model_dump()


def _quantile(values: Sequence[float], probability: float) -> dict[str, Any] | None:
    if not values:
        return None
    found = quantile_sequence(sorted(values), probability)
    low = found.low if math.isfinite(found.low) else None
    return {"value": found.value, "low": low, "high": found.high if math.isfinite(found.high) else None, "n": found.n}


def _exp(estimate: Estimate) -> Estimate:
    told = {name: math.exp(min(50.0, getattr(estimate, name))) for name in ("value", "low", "high")}
    return Estimate(**told, n=estimate.n)
