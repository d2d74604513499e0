"""Several processes on one run: each takes its share of every step, and all take the same step."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import torch
import torch.distributed as dist

from services.trainer.domain.protocol import Job

_PATIENCE = timedelta(minutes=10)
_JOB = "PAWL_RANK_JOB"
_OUT_OF_MEMORY = "pawl/out-of-memory"


class OutOfStep(MemoryError):
    """Memory ran out in the middle of a step that several processes take together: it cannot be taken again alone."""


class Group(Protocol):
    """The processes of a run, as one of them sees them."""

    @property
    def rank(self) -> int:
        """Number of this process; 0 speaks for all, writes checkpoints and saves."""

    @property
    def world(self) -> int:
        """How many there are."""

    def total(self, value: float) -> float:
        """Sum of everyone's value."""

    def any(self, flag: bool) -> bool:
        """Whether it holds for anyone."""

    def sum_gradients(self, weights: Iterable[torch.nn.Parameter]) -> None:
        """Replace every gradient by the sum of everyone's; one that is missing counts as zeros."""

    def tell_out_of_memory(self, reason: str) -> None:
        """Leave word, for who waits in the middle of a step, why this process will not go on with it."""

    def told_out_of_memory(self) -> str:
        """The word that one of the others has left; "" where none has."""


class Alone:
    """A run in one process."""

    rank = 0
    world = 1

    def total(self, value: float) -> float:
        """The value."""
        return value

    def any(self, flag: bool) -> bool:
        """The flag."""
        return flag

    def sum_gradients(self, weights: Iterable[torch.nn.Parameter]) -> None:
        """Nothing to add."""

    def tell_out_of_memory(self, reason: str) -> None:
        """Nobody waits."""

    def told_out_of_memory(self) -> str:
        """Nobody says anything."""
        return ""


class Processes:
    """A group of torch.distributed: NCCL between GPUs, gloo between processors."""

    def __init__(self, device: torch.device) -> None:
        self.rank = dist.get_rank()
        self.world = dist.get_world_size()
        self._device = device

    def total(self, value: float) -> float:
        """Sum, in fp64, so that its order does not show."""
        held = torch.tensor([value], dtype=torch.float64, device=self._device)
        dist.all_reduce(held)
        return float(held.item())

    def any(self, flag: bool) -> bool:
        """Whether anyone's flag is set."""
        return self.total(float(flag)) > 0

    def sum_gradients(self, weights: Iterable[torch.nn.Parameter]) -> None:
        """One message for all of them."""
        held = list(weights)
        grads = [weight.grad if weight.grad is not None else torch.zeros_like(weight) for weight in held]
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        dist.all_reduce(flat)
        parts = flat.split([weight.numel() for weight in held])
        for weight, part in zip(held, parts, strict=True):
            weight.grad = part.view_as(weight)

    def tell_out_of_memory(self, reason: str) -> None:
        """By the store that all of them met at."""
        dist.distributed_c10d._get_default_store().set(_OUT_OF_MEMORY, reason)  # noqa: SLF001 - there is no other way

    def told_out_of_memory(self) -> str:
        """From the same store."""
        store = dist.distributed_c10d._get_default_store()  # noqa: SLF001 - there is no other way
        return store.get(_OUT_OF_MEMORY).decode() if store.check([_OUT_OF_MEMORY]) else ""


def join(job: Job, device: torch.device) -> Group:
    """The group of a job, waiting until all of it is there.

    A process that torchrun, or `launch`, started has its place in the environment; one that was started alone for a
    job of several starts the others, which end with it.
    """
    if job.recipe.processes == 1:
        return Alone()
    if "RANK" not in os.environ:
        _launch(job)
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method=os.environ.get("PAWL_RENDEZVOUS", "env://"),
        rank=int(os.environ["RANK"]), world_size=int(os.environ["WORLD_SIZE"]), timeout=_PATIENCE,
    )  # fmt: skip
    return Processes(device)


def leave(group: Group) -> None:
    """Say goodbye, so that nobody waits."""
    if group.world > 1:
        dist.destroy_process_group()


def local_rank() -> int:
    """Which of this machine's GPUs is this process's."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def _launch(job: Job) -> None:
    """Start the other processes of a job on this machine."""
    workspace = Path(job.workspace)
    workspace.mkdir(parents=True, exist_ok=True)
    meeting = workspace / f"rendezvous-{os.getpid()}"
    meeting.unlink(missing_ok=True)
    told = workspace / f"job-{os.getpid()}.json"
    told.write_text(json.dumps({"job": job.model_dump(mode="json")}))
    shared = {"WORLD_SIZE": str(job.recipe.processes), "PAWL_RENDEZVOUS": f"file://{meeting.resolve()}"}
    os.environ.update({**shared, "RANK": "0", "LOCAL_RANK": "0"})
    for rank in range(1, job.recipe.processes):
        # In the process group of this one: whoever ends it ends them.
        subprocess.Popen(
            [sys.executable, "-m", "services.trainer.compute.rank"],
            env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), _JOB: str(told)},
            stdin=subprocess.DEVNULL,
        )


def told_job() -> tuple[Job, dict[str, str]]:
    """The job a started process was told, and where its first process reports to, if not to who started it."""
    held = json.loads(Path(os.environ[_JOB]).read_text())
    return Job.model_validate(held["job"]), held.get("door") or {}
