"""Training runs."""

from libs.contracts.stubs.pawl.trainer.v1 import trainer_pb2, trainer_pb2_grpc
from pawl.client.calls.base import DEADLINE_SECONDS, Calls, rpc


class TrainingCalls(Calls):
    """Calls to the trainer."""

    def runs(self, task: str) -> list[trainer_pb2.Run]:
        """Runs of a task, newest first."""
        with rpc("trainer"):
            stub = trainer_pb2_grpc.TrainerServiceStub(self.channel("trainer"))
            return list(stub.ListRuns(trainer_pb2.ListRunsRequest(task=task), timeout=DEADLINE_SECONDS).runs)

    def run(self, run_id: str) -> trainer_pb2.Run:
        """One run as it stands."""
        with rpc("trainer"):
            stub = trainer_pb2_grpc.TrainerServiceStub(self.channel("trainer"))
            return stub.GetRun(trainer_pb2.GetRunRequest(run_id=run_id), timeout=DEADLINE_SECONDS).run
