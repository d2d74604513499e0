"""What a run takes of the machine it is on."""

import subprocess
import sys
from pathlib import Path

import torch

from services.trainer.compute.machine import peak_memory_bytes, return_freed_memory

MIB = 1 << 20


def _resident() -> int:
    line = next(each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def test_the_memory_of_a_freed_tensor_goes_back_though_its_neighbours_stay() -> None:
    return_freed_memory()
    held = [torch.ones(MIB) for _ in range(32)]
    full = _resident()
    del held[::2]
    assert full - _resident() > 48 * MIB, "16 tensors of 4 MiB are gone"
    assert len(held) == 16


def test_a_peak_is_that_of_this_process_and_not_of_who_started_it() -> None:
    ballast = torch.ones(128 * MIB)
    code = "from pathlib import Path; from services.trainer.compute.machine import peak_memory_bytes as p; print(p())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=170)
    assert int(done.stdout) < peak_memory_bytes() - 64 * MIB
    assert len(ballast)
