"""`pawl.registry.v1.RegistryService`: each call is one question or one decision."""

# ruff: noqa: N802, ARG002 - gRPC chose the names and the arguments

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from libs.contracts.errors import FailedPrecondition, InvalidInput, NotFound
from libs.contracts.ids import DIGEST_PATTERN, new_id
from libs.contracts.stubs.pawl.registry.v1 import registry_pb2 as pb
from libs.contracts.stubs.pawl.registry.v1 import registry_pb2_grpc as pb_grpc
from libs.contracts.task import TaskSpec
from libs.telemetry import current_traceparent, new_traceparent
from services.registry.domain import applying, hands, triggers
from services.registry.domain.decision import Decision
from services.registry.domain.routing import Fleet
from services.registry.domain.state import Occasion, Task, Turn
from services.registry.domain.steering import steer_rollout
from services.registry.rpc.messages import decision_message, task_message, turn_message, version_message
from services.registry.store import Store
from services.registry.store.reading import decisions_of, find_turn, get_task, task_names, turns_of

SERVICE = "pawl.registry.v1.RegistryService"
register = pb_grpc.add_RegistryServiceServicer_to_server

_TENANT = "default"


class RegistryServicer(pb_grpc.RegistryServiceServicer):
    """The control plane's calls; `has_object` says whether a digest is in object storage."""

    def __init__(
        self, store: Store, has_object: Callable[[str], Awaitable[bool]], fleet: Callable[[], Fleet] = Fleet
    ) -> None:
        """`fleet`: the engines as they report now."""
        self._store = store
        self._fleet = fleet
        self._has_object = has_object

    async def ApplyTask(self, request: pb.ApplyTaskRequest, context: Any) -> pb.ApplyTaskResponse:
        """Declare or change a task."""
        spec = TaskSpec.model_validate_json(request.spec_json)
        base = request.base_digest
        if not re.match(DIGEST_PATTERN, base):
            raise InvalidInput(f"base_digest {base!r} must look like sha256:<64 hex digits>", field="base_digest")
        if not await self._has_object(base):
            raise FailedPrecondition(
                f"base {base} is not in object storage; upload it first", reason="BASE_MISSING", field="base_digest"
            )
        by, occasion = request.by or "unknown", _occasion()
        task, changed = await self._store.declare_or(
            _TENANT,
            spec.task,
            occasion,
            lambda: applying.declare(_TENANT, spec, base, by),
            lambda task: applying.apply(task, spec, base, by, occasion),
        )
        return pb.ApplyTaskResponse(task=task_message(task), changed=changed)

    async def ListTasks(self, request: pb.ListTasksRequest, context: Any) -> pb.ListTasksResponse:
        """Tasks with their routes."""
        async with self._store.reading() as session:
            names = [name for tenant, name in await task_names(session) if tenant == _TENANT]
            tasks = [await get_task(session, _TENANT, name) for name in names]
        return pb.ListTasksResponse(tasks=[task_message(task) for task in tasks])

    async def StartTurn(self, request: pb.StartTurnRequest, context: Any) -> pb.StartTurnResponse:
        """Open a turn by hand."""
        occasion, by = _occasion(), hands.required(request.by, "by")
        task = await self._decide(request.task, occasion, lambda task: triggers.open_by_hand(task, by, occasion))
        return pb.StartTurnResponse(turn=_newest(task))

    async def GetTurn(self, request: pb.GetTurnRequest, context: Any) -> pb.GetTurnResponse:
        """One turn with its history."""
        turn, _, name = await self._turn(request.turn_id)
        return pb.GetTurnResponse(turn=turn_message(name, turn))

    async def ListTurns(self, request: pb.ListTurnsRequest, context: Any) -> pb.ListTurnsResponse:
        """Turns of a task, oldest first."""
        async with self._store.reading() as session:
            task = await get_task(session, _TENANT, request.task)
            turns = await turns_of(session, task.tenant, task.name)
        return pb.ListTurnsResponse(turns=[turn_message(task.name, turn) for turn in turns])

    async def SteerTurn(self, request: pb.SteerTurnRequest, context: Any) -> pb.SteerTurnResponse:
        """Pause, resume or cancel the work of a turn."""
        _, _, name = await self._turn(request.turn_id)
        occasion = _occasion()
        await self._decide(
            name,
            occasion,
            lambda task: hands.steer(task, request.turn_id, request.wish, request.by, request.reason, occasion),
        )
        # The end of a turn may have begun the next one: the answer is about the turn that was asked about.
        turn, _, name = await self._turn(request.turn_id)
        return pb.SteerTurnResponse(turn=turn_message(name, turn))

    async def ApproveVersion(self, request: pb.ApproveVersionRequest, context: Any) -> pb.ApproveVersionResponse:
        """Approve a version that waits for it."""
        occasion = _occasion()
        task = await self._decide(
            request.task, occasion, lambda task: hands.approve(task, request.version, request.by, occasion)
        )
        return pb.ApproveVersionResponse(turn=_newest(task))

    async def OverrideGates(self, request: pb.OverrideGatesRequest, context: Any) -> pb.OverrideGatesResponse:
        """Waive named gates of a refused version."""
        occasion, gates = _occasion(), tuple(request.gates)
        task = await self._decide(
            request.task,
            occasion,
            lambda task: hands.override(task, request.version, gates, request.by, request.reason, occasion),
        )
        return pb.OverrideGatesResponse(turn=_newest(task))

    async def RollBack(self, request: pb.RollBackRequest, context: Any) -> pb.RollBackResponse:
        """Put the previous stable version back at once."""
        occasion = _occasion()
        task = await self._decide(
            request.task, occasion, lambda task: hands.roll_back(task, request.by, request.reason, occasion)
        )
        return pb.RollBackResponse(task=task_message(task))

    async def SteerRollout(self, request: pb.SteerRolloutRequest, context: Any) -> pb.SteerRolloutResponse:
        """Pause, resume, advance or abort a rollout."""
        occasion = _occasion()
        task = await self._decide(
            request.task,
            occasion,
            lambda task: steer_rollout(task, request.wish, self._fleet(), request.by, request.reason, occasion),
        )
        return pb.SteerRolloutResponse(turn=_newest(task))

    async def ListVersions(self, request: pb.ListVersionsRequest, context: Any) -> pb.ListVersionsResponse:
        """Model versions of a task, oldest first."""
        async with self._store.reading() as session:
            task = await get_task(session, _TENANT, request.task)
        return pb.ListVersionsResponse(versions=[version_message(task.name, version) for version in task.versions])

    async def ListDecisions(self, request: pb.ListDecisionsRequest, context: Any) -> pb.ListDecisionsResponse:
        """The audit log of a task."""
        async with self._store.reading() as session:
            task = await get_task(session, _TENANT, request.task)
            entries = await decisions_of(session, task.tenant, task.name)
        return pb.ListDecisionsResponse(decisions=[decision_message(entry) for entry in entries])

    async def _decide(self, name: str, occasion: Occasion, decide: Callable[[Task], Decision]) -> Task:
        return await self._store.decide(_TENANT, name, occasion, decide)

    async def _turn(self, turn_id: str) -> tuple[Turn, str, str]:
        async with self._store.reading() as session:
            found = await find_turn(session, turn_id)
        if found is None:
            raise NotFound(f"no turn {turn_id!r}", reason="UNKNOWN_TURN", field="turn_id")
        return found


def _newest(task: Task) -> pb.Turn:
    assert task.turn is not None  # the decision just made opened or moved one
    return turn_message(task.name, task.turn)


def _occasion() -> Occasion:
    return Occasion(new_id("call"), datetime.now(UTC), current_traceparent() or new_traceparent())
