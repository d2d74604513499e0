"""What happened in the demo, as it will stand in the report."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Ledger:
    """Facts gathered on the way; `report()` is the JSON document."""

    started: float = field(default_factory=time.time)
    stages: list[dict[str, Any]] = field(default_factory=list)
    timeline: list[dict[str, Any]] = field(default_factory=list)
    dataset: dict[str, Any] = field(default_factory=dict)
    arms: dict[str, Any] = field(default_factory=dict)
    new_category: dict[str, Any] = field(default_factory=dict)
    turns: list[dict[str, Any]] = field(default_factory=list)
    trace: dict[str, str] = field(default_factory=dict)
    resume: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, Any] = field(default_factory=dict)
    rollback: dict[str, Any] = field(default_factory=dict)
    traffic: dict[str, Any] = field(default_factory=dict)
    versions: list[dict[str, Any]] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    failure: str | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.stages.append({"stage": name, "seconds": round(time.monotonic() - begun, 1)})

    def note(self, what: str, **more: Any) -> None:
        """Write down that something happened now."""
        self.timeline.append({"at": round(time.time() - self.started, 1), "what": what, **more})

    def report(self) -> dict[str, Any]:
        """The document that `report.json` holds."""
        return {
            "ok": self.failure is None,
            "failure": self.failure,
            "seconds": round(time.time() - self.started, 1),
            "stages": self.stages,
            "dataset": self.dataset,
            "arms": self.arms,
            "new_category": self.new_category,
            "turns": self.turns,
            "trace": self.trace,
            "resume": self.resume,
            "refused": self.refused,
            "rollback": self.rollback,
            "traffic": self.traffic,
            "versions": self.versions,
            "memory": self.memory,
            "loss": self.loss,
            "timeline": self.timeline,
        }
