"""A run's plan: memory by part, whether it fits, hours, energy, price, pay-back, and what to change."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from libs.contracts.errors import InvalidInput
from libs.contracts.task import RecipeSpec
from services.trainer.domain.devices import Device, key_of
from services.trainer.domain.protocol import Surveyed

_GUESSED_MFU = {"cpu": 0.10, "gpu": 0.35}
"""Share of the peak a run is expected to reach on a device that has not trained yet."""
_SLACK = {"cpu": 1.0, "gpu": 1.06}
"""What a step's tensors take over their own size. A processor's go back as they are freed; a GPU's allocator rounds up
and keeps what does not fit the next batch. Runs correct it.
"""
_RUNTIME = {"cpu": 64 << 20, "gpu": 0}
"""What the first step brings in besides tensors: pages of the kernels it uses, stacks of their threads, small objects.

On processors, from the resident set around the steps of models of 4 and 40 million parameters.
"""
_LEAST_RUNS = 1
_TELLING = 0.2


@dataclass(frozen=True, slots=True)
class Calibration:
    """What earlier runs taught: what a step held over what its tensors are, and share of peak speed, by device name."""

    memory: Mapping[str, float] = field(default_factory=dict)
    mfu: Mapping[str, float] = field(default_factory=dict)
    runs: int = 0


@dataclass(frozen=True, slots=True)
class Prices:
    """The operator's table: money per hour by device, per kWh, per million tokens elsewhere, per request."""

    currency: str = ""
    devices: Mapping[str, float] = field(default_factory=dict)
    kwh: float = 0.0
    managed_per_million_tokens: float = 0.0
    incumbent_per_request: float = 0.0
    own_per_request: float = 0.0


def calibrate(history: Sequence[Mapping[str, Any]]) -> Calibration:
    """From the details of ended runs: medians, so that one odd run moves little.

    Runs whose step was too small to tell its slack from the rest say nothing about memory.
    """
    memory: dict[str, list[float]] = {}
    mfu: dict[str, list[float]] = {}
    for details in history:
        actual, plan = details.get("actual") or {}, details.get("plan") or {}
        name = key_of(str(actual.get("device", "")))
        if actual.get("mfu"):
            mfu.setdefault(name, []).append(float(actual["mfu"]))
        planned, held = _in_step(plan), float(actual.get("peak_memory_bytes", 0)) - _fixed(plan)
        if planned > _TELLING * _fixed(plan) and held > 0 and actual.get("split", 1) == 1:
            memory.setdefault(name, []).append(min(3.0, max(0.5, held / planned)))
    return Calibration(
        {name: statistics.median(found) for name, found in memory.items() if len(found) >= _LEAST_RUNS},
        {name: statistics.median(found) for name, found in mfu.items() if len(found) >= _LEAST_RUNS},
        len(history),
    )


def prices_of(table: Mapping[str, Any]) -> Prices:
    """The operator's price table; InvalidInput names a key that is not one."""
    unknown = sorted(set(table) - set(Prices.__dataclass_fields__))
    if unknown:
        known = ", ".join(Prices.__dataclass_fields__)
        raise InvalidInput(f"price table: unknown key {unknown[0]!r}; there are {known}", field=unknown[0])
    return Prices(**table)


def forecast(
    seen: Surveyed, recipe: RecipeSpec, device: Device, calibration: Calibration, prices: Prices
) -> dict[str, Any]:
    """The plan as JSON: counts, `memory` by part in bytes, `fits`, `seconds`, `kwh`, `price`, `suggestions`."""
    kind = device.kind
    factor = calibration.memory.get(key_of(device.name))
    memory = peak_of(seen.memory, device.overhead or seen.baseline_bytes, kind, factor)
    fits = memory["peak"] <= device.memory
    per_token = (6 if recipe.method == "full" else 4) * seen.parameters
    mfu = calibration.mfu.get(key_of(device.name), _GUESSED_MFU[kind])
    # As runs count their share of the peak: tokens of rows, so that padding is part of what slows them.
    seconds = seen.tokens * per_token / (mfu * device.flops * recipe.processes)
    plan: dict[str, Any] = {
        "method": recipe.method,
        "device": device.name,
        "device_memory": device.memory,
        "rows": seen.rows,
        "too_long": seen.too_long,
        "skipped": seen.skipped,
        "parameters": seen.parameters,
        "trainable_parameters": seen.trainable_parameters,
        "steps": seen.total_steps,
        "tokens": seen.tokens,
        "padded_tokens": seen.padded_tokens,
        "memory": memory,
        "fits": fits,
        "seconds": round(seconds, 1),
        "tokens_per_second": round(seen.tokens / max(seconds, 1e-9), 1),
        "mfu": round(mfu, 4),
        "calibrated_by": calibration.runs if key_of(device.name) in calibration.mfu else 0,
        "kwh": round(seconds / 3600 * device.watts * recipe.processes / 1000, 6),
        "suggestions": [] if fits else _suggestions(seen, recipe, memory, device.memory),
    }
    return {**plan, **_money(plan, seconds / 3600 * recipe.processes, prices)}


def beside(plan: Mapping[str, Any], actual: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Estimate and actual of what both know, with the difference as a share of the actual."""
    pairs = (
        ("peak memory (bytes)", plan.get("memory", {}).get("peak"), actual.get("peak_memory_bytes")),
        ("seconds", plan.get("seconds"), actual.get("seconds")),
        ("tokens/s", plan.get("tokens_per_second"), actual.get("tokens_per_second")),
        ("steps", plan.get("steps"), actual.get("steps")),
        ("MFU", plan.get("mfu"), actual.get("mfu")),
    )
    return [
        {"what": what, "planned": planned, "actual": was, "off": round((planned - was) / was, 4)}
        for what, planned, was in pairs
        if planned is not None and was
    ]


def peak_of(found: Mapping[str, int], overhead: int, kind: str, factor: float | None = None) -> dict[str, int]:
    """The parts of a run's memory with the `overhead` it begins with, what allocators keep, and the peak; bytes.

    `factor` is what a step holds over what its tensors are, where runs have told; the kind's own otherwise.
    """
    parts = dict(found)
    saving = parts.pop("saving", 0)
    factor = _SLACK[kind] if factor is None else factor
    resident = parts["weights"] + parts["adapter"] + parts["optimizer"]
    in_step = parts["gradients"] + parts["activations"]
    slack = int(in_step * (factor - 1))
    runtime = _RUNTIME[kind]
    # A checkpoint is written between steps: what it needs at once and what a step needs never meet.
    peak = overhead + runtime + resident + max(in_step + slack, saving)
    return {**parts, "saving": saving, "overhead": overhead, "runtime": runtime, "slack": slack, "peak": peak}


def _fixed(plan: Mapping[str, Any]) -> float:
    memory = plan.get("memory") or {}
    return sum(float(memory.get(name, 0)) for name in ("overhead", "runtime", "weights", "adapter", "optimizer"))


def _in_step(plan: Mapping[str, Any]) -> float:
    memory = plan.get("memory") or {}
    return sum(float(memory.get(name, 0)) for name in ("gradients", "activations"))


def _money(plan: Mapping[str, Any], hours: float, prices: Prices) -> dict[str, Any]:
    held = {key_of(name): price for name, price in prices.devices.items()}
    hourly = held.get(key_of(plan["device"]))
    price = None if hourly is None and not prices.kwh else (hourly or 0.0) * hours + prices.kwh * plan["kwh"]
    managed = prices.managed_per_million_tokens * plan["tokens"] / 1e6
    saved = prices.incumbent_per_request - prices.own_per_request
    return {
        "currency": prices.currency,
        "price": None if price is None else round(price, 6),
        "managed_price": round(managed, 6) if managed else None,
        "pay_back_requests": None if price is None or saved <= 0 else -(-price // saved),
    }


def _suggestions(seen: Surveyed, recipe: RecipeSpec, memory: Mapping[str, int], room: int) -> list[str]:
    found = []
    over = memory["peak"] - room
    per_row = (memory["activations"] + memory["slack"]) / recipe.batch_size
    rows = recipe.batch_size - int(-(-over // max(1.0, per_row)))
    if rows >= 1:
        divisor = max(size for size in range(1, rows + 1) if recipe.batch_size % size == 0)
        times = recipe.batch_size // divisor * recipe.gradient_accumulation
        found.append(f"batch_size {divisor} with gradient_accumulation {times}: the same result")
    if recipe.method in ("lora", "dpo", "kto", "distil-logits", "distil-sequence"):
        saved = int(seen.memory["weights"] * 0.7)
        found.append(f"method qlora: the base in 4 bits, about {saved / 2**30:.1f} GiB less")
    if recipe.method == "full":
        freed = memory["gradients"] + memory["optimizer"]
        found.append(f"method lora: no gradients and moments of frozen weights, {freed / 2**30:.1f} GiB less")
    if recipe.max_length > 2 * seen.mean_tokens:
        found.append(f"a max_length nearer to the mean of {seen.mean_tokens:.0f} tokens: longer rows are dropped")
    share = "" if recipe.shard or recipe.method == "qlora" else " with shard: true, each of which holds a part"
    found.append(f"a device with {memory['peak'] / 2**30:.1f} GiB, or recipe.processes over several{share}")
    return found
