"""TrainerService: runs as they stand."""

from typing import Any

from libs.contracts.errors import InvalidInput, NotFound
from libs.contracts.stubs.pawl.trainer.v1 import trainer_pb2, trainer_pb2_grpc
from services.trainer.domain.runs import Run
from services.trainer.store import RunStore

SERVICE_NAME = "pawl.trainer.v1.TrainerService"


class TrainerRpc(trainer_pb2_grpc.TrainerServiceServicer):
    """Translates between wire and store."""

    def __init__(self, store: RunStore) -> None:
        self._store = store

    async def GetRun(  # noqa: N802 - named by the proto
        self,
        request: trainer_pb2.GetRunRequest,
        context: Any,  # noqa: ARG002
    ) -> trainer_pb2.GetRunResponse:
        """One run; NotFound for one that never reached a trainer."""
        if not request.run_id:
            raise InvalidInput("run_id must be given", field="run_id")
        run = await self._store.get(request.run_id)
        if run is None:
            raise NotFound(f"no run {request.run_id!r}", reason="RUN_NOT_FOUND", field="run_id")
        return trainer_pb2.GetRunResponse(run=to_wire(run))

    async def ListRuns(  # noqa: N802 - named by the proto
        self,
        request: trainer_pb2.ListRunsRequest,
        context: Any,  # noqa: ARG002
    ) -> trainer_pb2.ListRunsResponse:
        """Runs of a task, of all tasks without one, newest first."""
        runs = await self._store.of_task(request.task)
        return trainer_pb2.ListRunsResponse(runs=[to_wire(run) for run in runs])


def to_wire(run: Run) -> trainer_pb2.Run:
    """The message of a run."""
    return trainer_pb2.Run(
        run_id=run.run_id,
        task=run.task,
        status=run.status.value,
        epoch=run.epoch,
        step=run.step,
        total_steps=run.total_steps,
        loss=run.loss,
        tokens_per_second=run.tokens_per_second,
        eta_seconds=run.eta_seconds,
        resumed_at_step=run.resumed_at_step,
        adapter_digest=run.adapter_digest,
        reason=run.reason,
        pid=run.pid,
        turn_id=run.turn_id,
    )
