"""Domain objects as protobuf messages."""

import json
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from libs.contracts.estimates import Verdict
from libs.contracts.stubs.pawl.registry.v1 import registry_pb2 as pb
from services.registry.domain.routing import compose
from services.registry.domain.state import LIVE, Task, Turn, Version
from services.registry.store.reading import Entry


def task_message(task: Task) -> pb.Task:
    """A task with the route as written to KV."""
    return pb.Task(
        name=task.name,
        revision=task.revision,
        spec_json=task.spec.model_dump_json(),
        base_digest=task.base_digest,
        route_json=compose(task).model_dump_json(),
    )


def turn_message(task: str, turn: Turn) -> pb.Turn:
    """A turn with its steps."""
    return pb.Turn(
        turn_id=turn.turn_id,
        task=task,
        trigger=turn.trigger.value,
        state=turn.state.value,
        reason=turn.reason,
        traceparent=turn.traceparent,
        version=turn.version,
        dataset_number=turn.dataset_number,
        run_id=turn.run_id,
        report_id=turn.report_id,
        steps=[pb.Step(state=step.state.value, reason=step.reason, at=_time(step.at)) for step in turn.steps],
        opened_at=_time(turn.opened_at),
        closed_at=_time(turn.closed_at),
        progress_json=json.dumps(dict(turn.progress)) if turn.progress else "",
        waits_for=_waits_for(turn),
    )


def _waits_for(turn: Turn) -> str:
    found = turn.assessment
    # A pass that is held says so in the turn's own reason.
    return found.reason if found and turn.state in LIVE and found.verdict is not Verdict.PASS else ""


def version_message(task: str, version: Version) -> pb.Version:
    """A version with the evidence it rests on."""
    evidence = {
        **version.evidence, "grounds": version.grounds.value, "open_gates": list(version.open_gates),
    }  # fmt: skip
    return pb.Version(
        task=task,
        number=version.number,
        digest=version.digest,
        base_digest=version.base_digest,
        adapter_digest=version.adapter_digest,
        status=version.status.value,
        dataset_digest=version.dataset_digest,
        run_id=version.run_id,
        run_manifest_digest=version.run_manifest_digest,
        report_id=version.report_id,
        report_digest=version.report_digest,
        turn_id=version.turn_id,
        evidence_json=json.dumps(evidence),
    )


def decision_message(entry: Entry) -> pb.Decision:
    """A line of the audit log."""
    return pb.Decision(
        sequence=entry.sequence,
        at=_time(entry.at),
        turn_id=entry.turn_id,
        action=entry.action,
        by=entry.by,
        reason=entry.reason,
        evidence_json=json.dumps(entry.evidence),
    )


def _time(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    message = Timestamp()
    message.FromDatetime(moment)
    return message
