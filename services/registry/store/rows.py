"""Between domain objects and rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from libs.contracts.events import Assessment, TurnState
from libs.contracts.routes import RunWish
from libs.contracts.task import TaskSpec
from services.registry.domain.state import Grounds, Status, Step, Task, Trigger, Turn, Version

Row = Mapping[Any, Any]


def task_row(task: Task) -> dict[str, Any]:
    """The columns of `tasks`."""
    return {
        "tenant": task.tenant,
        "name": task.name,
        "revision": task.revision,
        "spec": task.spec.model_dump(mode="json"),
        "base_digest": task.base_digest,
        "salt": task.salt,
        "generation": task.generation,
        "turn_id": task.turn.turn_id if task.turn is not None else None,
        "watermark": task.watermark,
        "consumed": task.consumed,
        "corrections": task.corrections,
        "import_watermark": task.import_watermark,
        "trigger_traceparent": task.trigger_traceparent,
        "datasets": task.datasets,
        "drop_reason": task.drop_reason,
    }


def task_of(row: Row, versions: tuple[Version, ...], turn: Turn | None) -> Task:
    """The aggregate of a task's row, its versions by number and its newest turn."""
    plain = {key: value for key, value in row.items() if key not in ("spec", "turn_id")}
    return Task(**plain, spec=TaskSpec.model_validate(row["spec"]), versions=versions, turn=turn)


def version_row(task: Task, version: Version) -> dict[str, Any]:
    """The columns of `versions`."""
    return {
        "tenant": task.tenant,
        "task": task.name,
        "number": version.number,
        "digest": version.digest,
        "base_digest": version.base_digest,
        "adapter_digest": version.adapter_digest,
        "status": version.status.value,
        "grounds": version.grounds.value,
        "dataset_digest": version.dataset_digest,
        "run_id": version.run_id,
        "run_manifest_digest": version.run_manifest_digest,
        "report_id": version.report_id,
        "report_digest": version.report_digest,
        "turn_id": version.turn_id,
        "traceparent": version.traceparent,
        "open_gates": list(version.open_gates),
        "evidence": dict(version.evidence),
    }


def version_of(row: Row) -> Version:
    """A version from its row."""
    plain = {key: value for key, value in row.items() if key not in ("tenant", "task")}
    return Version(
        **plain
        | {
            "status": Status(row["status"]),
            "grounds": Grounds(row["grounds"]),
            "open_gates": tuple(row["open_gates"]),
        }
    )


def turn_row(task: Task, turn: Turn) -> dict[str, Any]:
    """The columns of `turns`; its steps have rows of their own."""
    return {
        "turn_id": turn.turn_id,
        "tenant": task.tenant,
        "task": task.name,
        "trigger": turn.trigger.value,
        "state": turn.state.value,
        "reason": turn.reason,
        "traceparent": turn.traceparent,
        "watermark": turn.watermark,
        "opened_at": turn.opened_at,
        "closed_at": turn.closed_at,
        "dataset_number": turn.dataset_number,
        "dataset_digest": turn.dataset_digest,
        "suite_digest": turn.suite_digest,
        "run_id": turn.run_id,
        "run_epoch": turn.run_epoch,
        "wish": turn.wish.value,
        "wish_number": turn.wish_number,
        "version": turn.version,
        "report_id": turn.report_id,
        "share": turn.share,
        "generation": turn.generation,
        "approvals": list(turn.approvals),
        "held_by": turn.held_by,
        "assessment": turn.assessment.model_dump(mode="json") if turn.assessment is not None else None,
        "progress": dict(turn.progress),
    }


def turn_of(row: Row, steps: Sequence[Row]) -> Turn:
    """A turn from its row and those of its steps, in order."""
    plain = {key: value for key, value in row.items() if key not in ("tenant", "task")}
    return Turn(
        **plain
        | {
            "trigger": Trigger(row["trigger"]),
            "state": TurnState(row["state"]),
            "wish": RunWish(row["wish"]),
            "approvals": tuple(row["approvals"]),
            "assessment": Assessment.model_validate(row["assessment"]) if row["assessment"] else None,
            "steps": tuple(Step(TurnState(step["state"]), step["reason"], step["at"]) for step in steps),
        }
    )
