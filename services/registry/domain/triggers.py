"""What arrives, and when enough has arrived to open a turn."""

from dataclasses import replace
from datetime import timedelta

from libs.contracts.commands import BuildDataset
from libs.contracts.errors import FailedPrecondition
from libs.contracts.events import DropDetected, ImportCompleted, SegmentWritten, TurnState
from libs.contracts.ids import derived_id
from services.registry.domain.decision import REGISTRY, Decision, Record, Send, enter
from services.registry.domain.state import Occasion, Task, Trigger, Turn


def segment_written(task: Task, fact: SegmentWritten, occasion: Occasion) -> Decision:
    """Count what arrived above the last turn's watermark; what lies below it was learnt from already."""
    seen = max(task.watermark, fact.number)
    if fact.number <= task.consumed:
        return Decision(replace(task, watermark=seen))
    may_train = task.spec.data.sources
    corrections = sum(n for source, n in fact.corrections.items() if not may_train or source in may_train)
    trace = occasion.traceparent if corrections else task.trigger_traceparent
    return Decision(
        replace(task, watermark=seen, corrections=task.corrections + corrections, trigger_traceparent=trace)
    )


def import_completed(task: Task, fact: ImportCompleted, occasion: Occasion) -> Decision:
    """Note how far an import reaches; one that brought nothing new changes nothing."""
    if fact.accepted == 0:
        return Decision(task)
    return Decision(
        replace(
            task,
            watermark=max(task.watermark, fact.watermark),
            import_watermark=max(task.import_watermark, fact.watermark),
            trigger_traceparent=occasion.traceparent,
        )
    )


def drop_detected(task: Task, fact: DropDetected, occasion: Occasion) -> Decision:
    """Note that production got worse under the stable version; what is said of another version changes nothing."""
    if fact.version != task.stable.number:
        return Decision(task)
    noted = replace(task, drop_reason=fact.reason, trigger_traceparent=occasion.traceparent)
    evidence = fact.model_dump(mode="json", exclude={"tenant", "task"})
    return Decision(noted, (Record("drop", "evaluator", fact.reason, "", evidence),))


def consider(task: Task, occasion: Occasion) -> Decision:
    """Open a turn if one is due: none under way, the cooldown over, and a trigger met."""
    due = _due(task)
    if due is None or task.open_turn is not None:
        return Decision(task)
    rest = timedelta(seconds=task.spec.triggers.cooldown_seconds)
    if task.turn is not None and task.turn.closed_at is not None and occasion.now - task.turn.closed_at < rest:
        return Decision(task)
    trigger, reason = due
    return _open(task, trigger, task.trigger_traceparent or occasion.traceparent, occasion, reason, REGISTRY)


def open_by_hand(task: Task, by: str, occasion: Occasion) -> Decision:
    """Open a turn because somebody says so; FailedPrecondition while another is under way or nothing has arrived."""
    refuse_second_turn(task)
    if task.watermark == 0:
        raise FailedPrecondition(
            f"task {task.name} has no data to learn from yet; import a file first", reason="NO_DATA", field="task"
        )
    return _open(task, Trigger.HAND, occasion.traceparent, occasion, f"opened by {by}", by)


def refuse_second_turn(task: Task) -> None:
    """FailedPrecondition, naming it, while a turn is under way."""
    turn = task.open_turn
    if turn is not None:
        raise FailedPrecondition(
            f"{turn.turn_id} of task {task.name} is under way ({turn.state.value}); a task has one turn at a time",
            reason="TURN_ACTIVE",
            field="task",
            turn_id=turn.turn_id,
        )


def turn_id_for(occasion: Occasion) -> str:
    """The id of the turn an occasion opens; a replay opens the same one."""
    return f"turn-{derived_id(occasion.id, 'turn').replace('-', '')}"


def _due(task: Task) -> tuple[Trigger, str] | None:
    triggers = task.spec.triggers
    if triggers.on_import and task.import_watermark > task.consumed:
        return Trigger.IMPORT, f"an import reached segment {task.import_watermark}"
    if triggers.corrections is not None and task.corrections >= triggers.corrections:
        return Trigger.CORRECTIONS, f"{task.corrections} new corrections, {triggers.corrections} asked for"
    # The same data would make the same model: a drop waits for something new to learn from.
    if triggers.on_drop is not None and task.drop_reason and task.watermark > task.consumed:
        return Trigger.DROP, f"production dropped: {task.drop_reason}"
    return None


def _open(task: Task, trigger: Trigger, traceparent: str, occasion: Occasion, reason: str, by: str) -> Decision:
    number = task.datasets + 1
    turn = Turn(
        turn_id=turn_id_for(occasion),
        trigger=trigger,
        state=TurnState.CURATING,
        traceparent=traceparent,
        watermark=task.watermark,
        opened_at=occasion.now,
        dataset_number=number,
    )
    evidence = {"watermark": task.watermark, "corrections": task.corrections, "import_watermark": task.import_watermark}
    task = replace(task, turn=turn, consumed=task.watermark, corrections=0, datasets=number, drop_reason="")
    command = BuildDataset(
        tenant=task.tenant,
        task=task.name,
        turn_id=turn.turn_id,
        spec=task.spec,
        number=number,
        watermark=turn.watermark,
    )
    opened = enter(task, TurnState.CURATING, occasion, reason, by=by, evidence=evidence)
    return opened.also(Send(command, turn.turn_id))
