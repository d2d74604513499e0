"""What the run executes on: device, precision, threads, and what has to be recorded to get the same bits again."""

import ctypes
import importlib.metadata
import os
import platform
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from libs.contracts.errors import FailedPrecondition
from services.trainer.compute.ranks import local_rank
from services.trainer.domain.devices import recognised
from services.trainer.domain.protocol import Job, Survey

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of <malloc.h>; setting one ends that glibc moves it by itself."""
_RECORDED = ("torch", "transformers", "peft", "tokenizers", "safetensors", "numpy")


@dataclass(frozen=True, slots=True)
class Machine:
    """Device and the type the frozen weights and activations have; adapter, gradients and optimizer are fp32.

    With several `shards`, so many processes hold a part of the model each: it is loaded beside the device, and placed
    as it is shared out.
    """

    device: torch.device
    dtype: torch.dtype
    shards: int = 1

    @property
    def autocast(self) -> bool:
        """Whether the step runs under bf16 autocast."""
        return self.dtype is torch.bfloat16


def choose(job: Job | Survey) -> Machine:
    """Device and precision of a job; sets threads and determinism for the process.

    bf16 only where the processor multiplies it in hardware: emulated it is slower than fp32 by a factor of fifty.
    """
    # Before CUDA starts: rows differ in length, and blocks of fixed sizes would leave a fifth of the memory in pieces.
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    name = job.device if job.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise FailedPrecondition("device cuda was asked for and there is none", reason="NO_DEVICE", field="device")
    limit_memory(job.memory_limit_bytes)
    return_freed_memory()
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
    if name == "cuda":
        torch.cuda.set_device(local_rank())
    place = torch.device("cuda", local_rank()) if name == "cuda" else torch.device(name)
    return Machine(place, dtype, job.recipe.processes if job.recipe.shard else 1)


def fast_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor multiplies bf16 in hardware (AVX512-BF16 or AMX)."""
    if not cpuinfo.is_file():
        return False
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "").split()
    capped = os.environ.get("ATEN_CPU_CAPABILITY", "").lower() in ("avx2", "default")
    return not capped and ("avx512_bf16" in flags or "amx_bf16" in flags)


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's model, as it calls itself."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Hardware")))
    return next(named, platform.processor() or platform.machine())


def environment(machine: Machine) -> dict[str, str]:
    """What besides the inputs decides the bits: builds, device, precision."""
    found = {
        "cpu": cpu_name(),
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


def peak_memory_bytes(machine: Machine | None = None) -> int:
    """Most memory held so far: of the GPU where the machine has one, its context included, else of this process."""
    if machine is not None and machine.device.type == "cuda":
        free, total = torch.cuda.mem_get_info(machine.device)
        context: int = max(0, total - free - torch.cuda.memory_reserved(machine.device))
        return int(torch.cuda.max_memory_reserved(machine.device)) + context
    # Not getrusage: a process that was forked and then became another keeps the highest mark of what it was before.
    marked = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(marked.split()[1]) * 1024


_UNKNOWN_GPU = 100e12
_MEASURED = 1024


def peak_flops(machine: Machine) -> float:
    """Floating point operations per second at best: a GPU's by its name (dense bf16), a CPU's by trying one product."""
    if machine.device.type == "cuda":
        known = recognised(torch.cuda.get_device_name())
        return known.flops if known else _UNKNOWN_GPU
    one = torch.ones(_MEASURED, _MEASURED, dtype=machine.dtype)
    spent = []
    for _ in range(4):
        began = time.perf_counter()
        one @ one
        spent.append(time.perf_counter() - began)
    return 2.0 * _MEASURED**3 / min(spent)


def memory_total(machine: Machine, limit: int) -> int:
    """Bytes of memory a run may hold here: the GPU's, else the least of machine, container and limit."""
    if machine.device.type == "cuda":
        return int(torch.cuda.get_device_properties(0).total_memory)
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    held = Path("/sys/fs/cgroup/memory.max")
    text = held.read_text().strip() if held.is_file() else "max"
    return min(size for size in (found, int(text) if text.isdigit() else 0, limit) if size)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of the GPU or of this machine."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def return_freed_memory() -> None:
    """Have every tensor of a mebibyte or more go back to the system as it is freed.

    By default glibc keeps freed blocks of up to 32 MiB for the next of their size, and batches change shape: a step
    then holds half as much again as its tensors are, and holds it to the end of the run.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 20)
        mallopt(_M_TRIM_THRESHOLD, 1 << 26)


def limit_memory(limit: int) -> None:
    """Let an allocation beyond `limit` bytes fail where it is made, instead of the kernel ending the process for it."""
    if limit:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
