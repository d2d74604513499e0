"""What the registry knows of a task: its versions, the turn under way and how much has arrived since."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from libs.contracts.errors import FailedPrecondition, NotFound
from libs.contracts.events import Assessment, TurnState
from libs.contracts.routes import RunWish
from libs.contracts.subjects import version_name
from libs.contracts.task import TaskSpec

NOTHING: Mapping[str, Any] = MappingProxyType({})

ENDS = frozenset({TurnState.PROMOTED, TurnState.REFUSED, TurnState.ROLLED_BACK, TurnState.FAILED, TurnState.CANCELLED})
LIVE = frozenset({TurnState.SHADOW, TurnState.CANARY})
"""States in which users' requests reach the challenger, as copies or for good, and the monitors watch."""


class Trigger(StrEnum):
    """What opened a turn."""

    IMPORT = "import"
    CORRECTIONS = "corrections"
    DROP = "drop"
    HAND = "hand"
    OVERRIDE = "override"


class Status(StrEnum):
    """Where a model version stands."""

    CANDIDATE = "candidate"
    SHADOW = "shadow"
    CANARY = "canary"
    STABLE = "stable"
    PREVIOUS = "previous"
    REFUSED = "refused"
    ROLLED_BACK = "rolled_back"
    RETIRED = "retired"


class Grounds(StrEnum):
    """Why a version may have users' traffic; without grounds it gets none."""

    NONE = ""
    BASE = "base"
    GATES = "gates"
    OVERRIDE = "override"


@dataclass(frozen=True, slots=True)
class Occasion:
    """What a decision may not make up by itself.

    `id` names the cause (a fact's id, or a fresh one): ids made in the decision derive from it, so that a replay makes
    the same ones. `now` is aware UTC. `traceparent` is the trace the cause belongs to.
    """

    id: str
    now: datetime
    traceparent: str


@dataclass(frozen=True, slots=True)
class Version:
    """A model version; number 0 is the bare base. `open_gates` are the gates of its report that did not pass."""

    number: int
    digest: str
    base_digest: str
    status: Status
    adapter_digest: str = ""
    grounds: Grounds = Grounds.NONE
    dataset_digest: str = ""
    run_id: str = ""
    run_manifest_digest: str = ""
    report_id: str = ""
    report_digest: str = ""
    turn_id: str = ""
    traceparent: str = ""
    open_gates: tuple[str, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a turn's history."""

    state: TurnState
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Turn:
    """One trip round the loop.

    `watermark` is the last segment it learns from. `share` is the challenger's, in per cent of user units.
    `generation` is the route generation the current stage began at: evidence of another one does not count.
    `run_epoch` is the highest fencing epoch seen; `wish_number` counts what was asked of the run.
    `held_by` is who paused its rollout, if anybody did. `assessment` is the last one heard, kept so that a pass
    that had to wait is taken up again.
    """

    turn_id: str
    trigger: Trigger
    state: TurnState
    traceparent: str
    watermark: int
    opened_at: datetime
    reason: str = ""
    dataset_number: int = 0
    dataset_digest: str = ""
    suite_digest: str = ""
    run_id: str = ""
    run_epoch: int = 0
    wish: RunWish = RunWish.RUN
    wish_number: int = 0
    version: int = 0
    report_id: str = ""
    share: int = 0
    generation: int = 0
    approvals: tuple[str, ...] = ()
    held_by: str = ""
    assessment: Assessment | None = None
    progress: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    steps: tuple[Step, ...] = ()
    closed_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether the turn is still on its way."""
        return self.state not in ENDS


@dataclass(frozen=True, slots=True)
class Task:
    """A task as the registry holds it: one consistency boundary, always loaded and saved as a whole.

    `turn` is the newest turn, open or ended. `watermark` is the highest segment known, `consumed` the watermark of the
    newest learning turn, `corrections` those that arrived above it, `import_watermark` the end of the newest import.
    `trigger_traceparent` is the trace of what arrived last, which a turn opened later continues. `drop_reason` is what
    the monitors said of a drop of the stable version that no turn has answered yet.
    """

    tenant: str
    name: str
    revision: int
    spec: TaskSpec
    base_digest: str
    salt: str
    generation: int
    versions: tuple[Version, ...]
    turn: Turn | None = None
    watermark: int = 0
    consumed: int = 0
    corrections: int = 0
    import_watermark: int = 0
    trigger_traceparent: str = ""
    datasets: int = 0
    drop_reason: str = ""

    @property
    def open_turn(self) -> Turn | None:
        """The turn under way, if any."""
        return self.turn if self.turn is not None and self.turn.is_open else None

    @property
    def stable(self) -> Version:
        """The version that serves; there always is one."""
        return next(version for version in self.versions if version.status is Status.STABLE)

    @property
    def previous(self) -> Version | None:
        """The version that served before, pinned and warm."""
        return next((version for version in self.versions if version.status is Status.PREVIOUS), None)

    @property
    def challenger(self) -> Version | None:
        """The version of the turn under way, once it exists."""
        turn = self.open_turn
        return self.version(turn.version) if turn is not None and turn.version else None

    def version(self, number: int) -> Version:
        """A version by number; NotFound names the known ones."""
        for version in self.versions:
            if version.number == number:
                return version
        known = ", ".join(version_name(self.name, version.number) for version in self.versions)
        raise NotFound(f"no version {version_name(self.name, number)}; there are {known}", field="version")

    def with_version(self, number: int, **changes: Any) -> "Task":
        """The task with one version changed."""
        changed = tuple(replace(v, **changes) if v.number == number else v for v in self.versions)
        return replace(self, versions=changed)

    def with_turn(self, **changes: Any) -> "Task":
        """The task with its newest turn changed."""
        if self.turn is None:
            raise FailedPrecondition(f"task {self.name} has had no turn yet", reason="NO_TURN", field="turn_id")
        return replace(self, turn=replace(self.turn, **changes))
