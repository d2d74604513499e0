"""What the benchmarks of training share: tickets as a dataset version, our training process, a run in this process."""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BASE = ROOT / "examples" / "support-triage" / "base"
RESULTS = ROOT / "bench" / "results"
DIGEST = f"sha256:{'0' * 64}"
QUIET = {
    "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error", "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "0",
}  # fmt: skip


def quiet() -> None:
    """Set what libraries read as they load."""
    os.environ.update(QUIET)
    sys.path[:0] = [str(ROOT), str(ROOT / "examples" / "support-triage")]


def conversations(count: int, seed: int = 1) -> list[list[dict[str, str]]]:
    """Support tickets with their answers, as the example's users would write them."""
    from triage.tickets import SYSTEM_PROMPT, tickets

    return [
        [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": ticket.text},
            {"role": "assistant", "content": ticket.answer},
        ]
        for ticket in tickets(seed, count)
    ]


def write_dataset(directory: Path, count: int, *, held_out: int = 0) -> Path:
    """A dataset version's files."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps({"row_id": f"row-{at}", "messages": each}) for at, each in enumerate(conversations(count))]
    (directory / "train.jsonl").write_text("\n".join(rows) + "\n")
    if held_out:
        more = conversations(held_out, seed=2)
        rows = [json.dumps({"row_id": f"held-{at}", "messages": each}) for at, each in enumerate(more)]
        (directory / "validation.jsonl").write_text("\n".join(rows) + "\n")
    return directory


class Heard:
    """A channel that keeps what the training process says."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self._processor: dict[str, float] = {}

    def send(self, message: Mapping[str, Any]) -> None:
        """Keep what is said."""
        self.said.append(dict(message))
        self._processor[message["kind"]] = time.process_time()

    def receive(self, timeout: float | None = 0.0) -> dict[str, Any] | None:  # noqa: ARG002
        """Nothing is ever asked."""
        return None

    def processor_at(self, kind: str) -> float:
        """Processor seconds this process had used when the last word of a kind was said."""
        return self._processor[kind]

    def last(self, kind: str) -> dict[str, Any]:
        """The last word of a kind."""
        found = [word for word in self.said if word["kind"] == kind]
        if not found:
            raise SystemExit(f"training said no {kind!r}; its last word: {self.said[-1]}")
        return found[-1]


def train(
    base: Path, dataset: Path, workspace: Path, *, threads: int = 0, precision: str = "auto", **recipe: Any
) -> Heard:
    """A whole run in this process."""
    from libs.contracts.task import recipe_of
    from services.trainer.compute.job import run_job
    from services.trainer.domain.protocol import Job

    heard = Heard()
    teacher = recipe.pop("teacher_directory", None)
    job = Job(
        run_id="bench", base=str(base), base_digest=DIGEST, dataset=str(dataset), dataset_digest=DIGEST,
        workspace=str(workspace), recipe=recipe_of(**recipe), device="auto", precision=precision, threads=threads,
        teacher=teacher, system="Triage the ticket.",
    )  # fmt: skip
    run_job(job, heard)
    return heard
