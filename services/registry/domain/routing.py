"""The route as a pure function of the task: who has which role and share, and the catch that nobody slips past."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from libs.contracts.errors import FailedPrecondition
from libs.contracts.inference import Role
from libs.contracts.routes import Arm, EngineReport, Route
from libs.contracts.subjects import version_name
from services.registry.domain.decision import Decision, PutRoute
from services.registry.domain.state import Grounds, Occasion, Status, Task, Version

_ROLES = {
    Status.STABLE: Role.STABLE,
    Status.CANARY: Role.CANARY,
    Status.SHADOW: Role.SHADOW,
    Status.CANDIDATE: Role.CANDIDATE,
    Status.PREVIOUS: Role.PREVIOUS,
}
_ORDER = (Role.STABLE, Role.CANARY, Role.SHADOW, Role.CANDIDATE, Role.PREVIOUS)
_SERVED = frozenset({Status.STABLE, Status.CANARY, Status.SHADOW, Status.PREVIOUS})


def compose(task: Task) -> Route:
    """The route of a task.

    The bare base stays in every route (without a role of its own it is a candidate without share), since each
    candidate is compared with it through serving. Raises FailedPrecondition when a version without grounds would
    be served: whatever a decision got wrong, it ends here.
    """
    canary = next((v for v in task.versions if v.status is Status.CANARY), None)
    share = round(task.turn.share / 100, 6) if canary is not None and task.turn is not None else 0.0
    arms: list[Arm] = []
    for version in task.versions:
        role = _ROLES.get(version.status, Role.CANDIDATE if version.number == 0 else None)
        if role is None:
            continue
        if version.status in _SERVED and version.grounds is Grounds.NONE:
            raise FailedPrecondition(
                f"{version_name(task.name, version.number)} has neither passed its gates nor an override: not served",
                reason="NO_GROUNDS",
                field="version",
            )
        arms.append(_arm(version, role, {Role.STABLE: round(1 - share, 6), Role.CANARY: share}.get(role, 0.0)))
    if sum(arm.role is Role.STABLE for arm in arms) != 1:
        raise FailedPrecondition(f"task {task.name} must have exactly one stable version", reason="NO_STABLE")
    # The base comes last among equals: whoever looks for the candidate means the challenger.
    arms.sort(key=lambda arm: (_ORDER.index(arm.role), arm.version == 0, -arm.version))
    shadowing = any(arm.role is Role.SHADOW for arm in arms)
    return Route(
        tenant=task.tenant,
        task=task.name,
        generation=task.generation,
        salt=task.salt,
        system=task.spec.system,
        max_tokens=task.spec.output.max_tokens,
        shadow_rate=task.spec.rollout.shadow.rate if shadowing else 0.0,
        output_schema=_schema(task),
        routing=task.spec.routing,
        arms=tuple(arms),
    )


def _schema(task: Task) -> str:
    output = task.spec.output
    if not output.enforce or output.format != "json":
        return ""
    return json.dumps(output.schema_ or {"type": "object"}, sort_keys=True)


def reroute(task: Task) -> Decision:
    """Make the task's present state its route, under the next generation."""
    task = replace(task, generation=task.generation + 1)
    return Decision(task, (PutRoute(compose(task)),))


def _arm(version: Version, role: Role, share: float) -> Arm:
    return Arm(
        version=version.number,
        role=role,
        share=share,
        digest=version.digest,
        base_digest=version.base_digest,
        adapter_digest=version.adapter_digest,
        turn_id=version.turn_id or None,
        traceparent=version.traceparent or None,
    )


@dataclass(frozen=True, slots=True)
class Fleet:
    """The engines' own word on what they can serve. An engine silent for `patience` does not count."""

    reports: tuple[EngineReport, ...] = ()
    patience: timedelta = timedelta(seconds=20)

    @classmethod
    def of(cls, reports: Sequence[EngineReport], patience_seconds: float) -> "Fleet":
        """A fleet of the reports at hand."""
        return cls(tuple(reports), timedelta(seconds=patience_seconds))

    def missing(self, version: Version, occasion: Occasion) -> str | None:
        """Why a version cannot have traffic yet: None when every living engine of its base can answer with it.

        That is: reports it routable, or verified and at hand, to be loaded when it is asked for.
        """
        living = self._living(version.base_digest, occasion)
        if not living:
            return f"no engine serves base {version.base_digest[:19]}"
        late = [each.engine_id for each in living if version.digest not in (*each.routable, *each.cold)]
        return f"waiting for {', '.join(sorted(late))} to load {version.digest[:19]}" if late else None

    def refusal(self, version: Version, occasion: Occasion) -> str | None:
        """Why an engine says that it can never serve a version, naming the engine."""
        for report in self._living(version.base_digest, occasion):
            if version.digest in report.failed:
                return f"engine {report.engine_id} cannot serve it: {report.failed[version.digest]}"
        return None

    def _living(self, base_digest: str, occasion: Occasion) -> list[EngineReport]:
        return [
            report
            for report in self.reports
            if report.base_digest == base_digest and occasion.now - report.beat_at <= self.patience
        ]
