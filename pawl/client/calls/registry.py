"""Tasks, turns, versions and the decisions on them."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from libs.contracts.errors import InvalidInput
from libs.contracts.stubs.pawl.registry.v1 import registry_pb2, registry_pb2_grpc
from libs.contracts.task import TaskSpec
from libs.contracts.taskfile import parse_task
from pawl.client.attachments import attach
from pawl.client.bases import find_base
from pawl.client.calls.base import DEADLINE_SECONDS, Calls, rpc


class RegistryCalls(Calls):
    """Calls to the control plane."""

    def apply(self, task_file: Path, *, by: str) -> tuple[registry_pb2.Task, bool]:
        """Declare or change the task of a file; uploads its base first. Returns the task and whether it changed."""
        spec = read_task(task_file)
        base = find_base(spec.base, task_file.parent)
        digest, spec = asyncio.run(self._upload(base, spec, task_file.parent))
        with rpc("registry"):
            answer = self._registry().ApplyTask(
                registry_pb2.ApplyTaskRequest(spec_json=spec.model_dump_json(), base_digest=digest, by=by),
                timeout=DEADLINE_SECONDS,
            )
        return answer.task, answer.changed

    def tasks(self) -> list[registry_pb2.Task]:
        """All tasks with their routes."""
        with rpc("registry"):
            return list(self._registry().ListTasks(registry_pb2.ListTasksRequest(), timeout=DEADLINE_SECONDS).tasks)

    def turns(self, task: str) -> list[registry_pb2.Turn]:
        """Turns of a task, oldest first."""
        with rpc("registry"):
            return list(
                self._registry().ListTurns(registry_pb2.ListTurnsRequest(task=task), timeout=DEADLINE_SECONDS).turns
            )

    def turn(self, turn_id: str) -> registry_pb2.Turn:
        """One turn."""
        with rpc("registry"):
            return self._registry().GetTurn(registry_pb2.GetTurnRequest(turn_id=turn_id), timeout=DEADLINE_SECONDS).turn

    def start_turn(self, task: str, *, by: str) -> registry_pb2.Turn:
        """Open a turn by hand."""
        with rpc("registry"):
            return (
                self._registry()
                .StartTurn(registry_pb2.StartTurnRequest(task=task, by=by), timeout=DEADLINE_SECONDS)
                .turn
            )

    def steer(self, turn_id: str, wish: str, *, by: str, reason: str) -> registry_pb2.Turn:
        """Pause, run or cancel a turn's work."""
        request = registry_pb2.SteerTurnRequest(turn_id=turn_id, wish=wish, by=by, reason=reason)
        with rpc("registry"):
            return self._registry().SteerTurn(request, timeout=DEADLINE_SECONDS).turn

    def steer_rollout(self, task: str, wish: str, *, by: str, reason: str) -> registry_pb2.Turn:
        """Pause, resume, advance or abort the rollout under way."""
        request = registry_pb2.SteerRolloutRequest(task=task, wish=wish, by=by, reason=reason)
        with rpc("registry"):
            return self._registry().SteerRollout(request, timeout=DEADLINE_SECONDS).turn

    def versions(self, task: str) -> list[registry_pb2.Version]:
        """Model versions of a task, oldest first."""
        with rpc("registry"):
            request = registry_pb2.ListVersionsRequest(task=task)
            return list(self._registry().ListVersions(request, timeout=DEADLINE_SECONDS).versions)

    def decisions(self, task: str) -> list[registry_pb2.Decision]:
        """The audit log of a task."""
        with rpc("registry"):
            request = registry_pb2.ListDecisionsRequest(task=task)
            return list(self._registry().ListDecisions(request, timeout=DEADLINE_SECONDS).decisions)

    def approve(self, task: str, version: int, *, by: str) -> registry_pb2.Turn:
        """Approve a version that waits for it."""
        request = registry_pb2.ApproveVersionRequest(task=task, version=version, by=by)
        with rpc("registry"):
            return self._registry().ApproveVersion(request, timeout=DEADLINE_SECONDS).turn

    def override(self, task: str, version: int, gates: Iterable[str], *, by: str, reason: str) -> registry_pb2.Turn:
        """Waive named gates of a refused version; the watch for live harm stays."""
        request = registry_pb2.OverrideGatesRequest(task=task, version=version, gates=list(gates), by=by, reason=reason)
        with rpc("registry"):
            return self._registry().OverrideGates(request, timeout=DEADLINE_SECONDS).turn

    def roll_back(self, task: str, *, by: str, reason: str) -> registry_pb2.Task:
        """Put the previous stable version back at once."""
        request = registry_pb2.RollBackRequest(task=task, by=by, reason=reason)
        with rpc("registry"):
            return self._registry().RollBack(request, timeout=DEADLINE_SECONDS).task

    def _registry(self) -> registry_pb2_grpc.RegistryServiceStub:
        return registry_pb2_grpc.RegistryServiceStub(self.channel("registry"))

    async def _upload(self, base: Path, spec: TaskSpec, beside: Path) -> tuple[str, TaskSpec]:
        store = self.connection.objects()
        attached = await attach(store, spec, beside)
        return await store.put_tree(base, kind="base", metadata={}), attached


def read_task(path: Path) -> TaskSpec:
    """The task of a file; InvalidInput names what is wrong with it."""
    try:
        return parse_task(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}", field="file") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path}: is not UTF-8 text (byte {error.start})", field="file") from error
