"""Devices a run can be planned for: memory, speed at best, power; from the makers' data sheets (dense bf16)."""

import re
from dataclasses import dataclass
from typing import Literal

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Device:
    """`memory` in bytes, `flops` per second at best in bf16, `watts` when busy, `overhead` bytes of context."""

    name: str
    memory: int
    flops: float
    watts: float
    overhead: int
    kind: Literal["cpu", "gpu"] = "gpu"


def _gpu(name: str, gib: float, teraflops: float, watts: float) -> Device:
    # A CUDA context, its libraries and workspaces take about this before the first tensor.
    return Device(name, int(gib * GIB), teraflops * 1e12, watts, int(0.9 * GIB))


DEVICES = {
    device.name: device
    for device in (
        _gpu("T4", 15, 65, 70),
        _gpu("L4", 22.5, 121, 72),
        _gpu("A10", 22.5, 125, 150),
        _gpu("L40S", 45, 362, 350),
        _gpu("RTX4090", 24, 165, 450),
        _gpu("A100", 40, 312, 400),
        _gpu("A100-80", 80, 312, 400),
        _gpu("H100", 80, 989, 700),
        _gpu("H200", 141, 989, 700),
        _gpu("B200", 180, 2250, 1000),
    )
}


def recognised(name: str) -> Device | None:
    """The device that a driver calls `name`, such as "NVIDIA A100-SXM4-80GB"; None for one that is not listed."""
    plain = re.sub(r"(RTX)\s+", r"\1", name.upper())
    found = [device for key, device in DEVICES.items() if _names(key, plain)]
    return max(found, key=lambda device: len(device.name), default=None)


def key_of(name: str) -> str:
    """What runs on a device are remembered by: its name here where it has one, else the driver's or the maker's."""
    known = recognised(name)
    return known.name if known else name


def _names(key: str, plain: str) -> bool:
    model, _, size = key.partition("-")
    # Not within a longer name: an L4 is no L40, an H200 no GH200.
    there = re.search(rf"(?<![A-Z0-9]){model}(?![0-9])", plain) is not None
    return there and (not size or plain == key or re.search(rf"(?<![0-9]){size}\s?GB", plain) is not None)
