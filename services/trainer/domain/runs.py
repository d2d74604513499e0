"""A run as the trainer knows it, and what is decided about its attempts."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from services.trainer.domain.protocol import Finished, Ready

MAX_CRASHES = 5
"""Deaths of the training process in a row, without a new checkpoint between them, until the run is given up."""
_LONGEST_PAUSE = 20.0


class RunStatus(StrEnum):
    """Where a run stands; the last three are ends."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to the run."""
        return self in (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)


@dataclass(frozen=True, slots=True)
class Run:
    """One run. `step` is the last reported, `killed_at_step` that of the attempt before; times are epoch seconds."""

    run_id: str
    tenant: str
    task: str
    turn_id: str
    base_digest: str
    dataset_digest: str
    status: RunStatus
    epoch: int
    step: int
    total_steps: int
    loss: float
    tokens_per_second: float
    eta_seconds: float
    resumed_at_step: int
    killed_at_step: int
    adapter_digest: str
    reason: str
    pid: int
    heartbeat_at: float
    created_at: float
    run_manifest_digest: str = ""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attempt:
    """The right to commit for a run, as long as no newer epoch exists."""

    run_id: str
    tenant: str
    task: str
    epoch: int
    killed_at_step: int


def crash_pause(crashes: int) -> float:
    """Seconds before the next attempt: none after the first crash, since a killed process is no reason to wait."""
    return 0.0 if crashes <= 1 else min(2.0 ** (crashes - 1), _LONGEST_PAUSE)


def describe_exit(status: int, out_of_memory: bool, last_words: str) -> str:
    """Why a training process that said nothing is gone. `status` is negative for a signal."""
    if out_of_memory:
        return (
            "OUT_OF_MEMORY: the kernel killed the training process because memory ran out, with one row at a time; "
            "lower recipe.max_length, or hold the base in 4 bits with method qlora; `pawl plan` shows what would fit"
        )
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return f"TRAINING_PROCESS_DIED: the training process {how}" + (f": {last_words}" if last_words else "")


def manifest(
    *, base_digest: str, dataset_digest: str, continue_from: str, recipe: dict[str, object], plan_digest: str,
    lock_digest: str, code_digest: str, environment: dict[str, str], rows_digest: str = "", task: str = "",
    system: str = "", split: int = 1, taught_digest: str = "",
) -> dict[str, object]:  # fmt: skip
    """All that is needed to make the same adapter again; same inputs, same manifest."""
    return {
        "kind": "run-manifest",
        "format": 1,
        "base_digest": base_digest,
        "dataset_digest": dataset_digest,
        "continue_from": continue_from,
        "recipe": recipe,
        "seed": recipe.get("seed"),
        "plan_digest": plan_digest,
        "lock_digest": lock_digest,
        "code_digest": code_digest,
        "rows_digest": rows_digest,
        "task": task,
        "system": system,
        "split": split,
        "taught_digest": taught_digest,
        "environment": environment,
        "device": environment.get("device", ""),
    }


def actual_of(finished: Finished, ready: Ready) -> dict[str, object]:
    """What a run turned out to be, to lay beside its plan and to calibrate the next one."""
    return {
        "seconds": finished.seconds,
        "steps": finished.steps,
        "tokens_per_second": finished.tokens_per_second,
        "mfu": finished.mfu,
        "peak_memory_bytes": finished.peak_memory_bytes,
        "baseline_bytes": ready.baseline_bytes,
        "parameters": ready.parameters,
        "trainable_parameters": ready.trainable_parameters,
        "validation": [list(point) for point in finished.validation],
        "best_step": finished.best_step,
        "split": finished.split,
        "too_long": ready.too_long,
        "skipped": ready.skipped,
        "device": ready.environment.get("gpu") or ready.environment.get("cpu", ""),
    }
