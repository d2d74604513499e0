"""What the run executes on: device, precision, threads, and what has to be recorded to get the same bits again."""

import importlib.metadata
import os
import platform
import resource
from dataclasses import dataclass
from pathlib import Path

import torch

from libs.contracts.errors import FailedPrecondition
from services.trainer.domain.protocol import Job

_RECORDED = ("torch", "transformers", "peft", "tokenizers", "safetensors", "numpy")


@dataclass(frozen=True, slots=True)
class Machine:
    """Device and the type the frozen weights and activations have; adapter, gradients and optimizer are fp32."""

    device: torch.device
    dtype: torch.dtype

    @property
    def autocast(self) -> bool:
        """Whether the step runs under bf16 autocast."""
        return self.dtype is torch.bfloat16


def choose(job: Job) -> Machine:
    """Device and precision of a job; sets threads and determinism for the process.

    bf16 only where the processor multiplies it in hardware: emulated it is slower than fp32 by a factor of fifty.
    """
    name = job.device if job.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise FailedPrecondition("device cuda was asked for and there is none", reason="NO_DEVICE", field="device")
    torch.set_num_threads(job.threads or len(os.sched_getaffinity(0)))
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling memory before it is written anyway guards against bugs elsewhere and costs a tenth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cuda.matmul.allow_tf32 = False
    if job.precision == "auto":
        fast = torch.cuda.is_bf16_supported() if name == "cuda" else fast_bf16()
        dtype = torch.bfloat16 if fast else torch.float32
    else:
        dtype = torch.bfloat16 if job.precision == "bf16" else torch.float32
    return Machine(torch.device(name), dtype)


def fast_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor multiplies bf16 in hardware (AVX512-BF16 or AMX)."""
    if not cpuinfo.is_file():
        return False
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "").split()
    capped = os.environ.get("ATEN_CPU_CAPABILITY", "").lower() in ("avx2", "default")
    return not capped and ("avx512_bf16" in flags or "amx_bf16" in flags)


def environment(machine: Machine) -> dict[str, str]:
    """What besides the inputs decides the bits: builds, device, precision."""
    found = {
        "python": platform.python_version(),
        "device": machine.device.type,
        "precision": str(machine.dtype).removeprefix("torch."),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        **{name: importlib.metadata.version(name) for name in _RECORDED},
    }
    if machine.device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name()
        found["cuda"] = str(torch.version.cuda)
    return found


def peak_memory_bytes(machine: Machine) -> int:
    """Most memory held so far: of the GPU where there is one, else of this process."""
    if machine.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
