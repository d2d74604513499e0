"""Declaring a task and changing it."""

from dataclasses import replace

from libs.contracts.errors import FailedPrecondition, InvalidInput
from libs.contracts.events import TaskApplied
from libs.contracts.ids import derived_id
from libs.contracts.task import TaskSpec
from services.registry.domain.decision import Decision, Publish, PutTask, Record
from services.registry.domain.rollout import renew_stage
from services.registry.domain.routing import reroute
from services.registry.domain.state import Grounds, Occasion, Status, Task, Version
from services.registry.domain.triggers import refuse_second_turn


def declare(tenant: str, spec: TaskSpec, base_digest: str, by: str) -> Decision:
    """A new task: its bare base serves from this moment on."""
    check(spec)
    task = Task(
        tenant=tenant,
        name=spec.task,
        revision=1,
        spec=spec,
        base_digest=base_digest,
        # Permanent, and the same again should the registry ever start from nothing: users keep their side.
        salt=derived_id(f"{tenant}.{spec.task}", "salt"),
        generation=0,
        versions=(_base(base_digest),),
    )
    return _applied(task, by, "declared").then(reroute)


def apply(task: Task, spec: TaskSpec, base_digest: str, by: str, occasion: Occasion) -> Decision:
    """The task as declared now; the same specification again changes nothing.

    Another base would make every version of the task something else than its number says: it is refused once there are
    versions (or a turn makes one).
    """
    check(spec)
    if spec == task.spec and base_digest == task.base_digest:
        return Decision(task)
    if base_digest != task.base_digest:
        if len(task.versions) > 1:
            raise FailedPrecondition(
                f"task {task.name} has {len(task.versions) - 1} version(s) of base {task.base_digest[:19]}; "
                "another base needs a new task name",
                reason="BASE_CHANGED",
                field="base",
            )
        refuse_second_turn(task)
        task = replace(task, base_digest=base_digest, versions=(_base(base_digest),))
    changed = [key for key in TaskSpec.model_fields if getattr(spec, key) != getattr(task.spec, key)]
    task = replace(task, revision=task.revision + 1, spec=spec)
    told = f"changed {', '.join(changed)}" if changed else "changed the base"
    return _applied(task, by, told).then(reroute).then(lambda task: renew_stage(task, occasion, by))


def check(spec: TaskSpec) -> None:
    """InvalidInput for a task that could never be gated: no gates, or two of one name."""
    names = [gate.name for gate in spec.evaluation.gates]
    if not names:
        raise InvalidInput("a task needs at least one gate", field="evaluation.gates")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInput(f"two gates are called {twice[0]!r}", field="evaluation.gates")


def applied_fact(task: Task) -> TaskApplied:
    """What the world is told of a task's present revision."""
    return TaskApplied(
        tenant=task.tenant, task=task.name, revision=task.revision, spec=task.spec, base_digest=task.base_digest
    )


def _applied(task: Task, by: str, told: str) -> Decision:
    fact = applied_fact(task)
    evidence = {"revision": task.revision, "base_digest": task.base_digest}
    return Decision(
        task,
        (
            PutTask(fact),
            Publish(fact, str(task.revision)),
            Record("applied", by or "unknown", f"revision {task.revision}: {told}", "", evidence),
        ),
    )


def _base(digest: str) -> Version:
    return Version(number=0, digest=digest, base_digest=digest, status=Status.STABLE, grounds=Grounds.BASE)
