"""Calls to a running Pawl, blocking and typed; every failure is an error of the one tree."""

import asyncio
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import grpc

from libs.artifacts import ObjectStore
from libs.contracts.errors import InvalidInput, NotFound, Unavailable
from libs.contracts.stubs.pawl.curation.v1 import curation_pb2, curation_pb2_grpc
from libs.contracts.stubs.pawl.evaluator.v1 import evaluator_pb2, evaluator_pb2_grpc
from libs.contracts.stubs.pawl.ingestion.v1 import ingestion_pb2, ingestion_pb2_grpc
from libs.contracts.stubs.pawl.registry.v1 import registry_pb2, registry_pb2_grpc
from libs.contracts.stubs.pawl.serving.v1 import feedback_pb2, feedback_pb2_grpc, inference_pb2, inference_pb2_grpc
from libs.contracts.stubs.pawl.trainer.v1 import trainer_pb2, trainer_pb2_grpc
from libs.contracts.task import TaskSpec
from libs.contracts.taskfile import parse_task
from libs.runtime.grpc_client import errors_from_rpc
from pawl.client.bases import find_base
from pawl.client.connection import Connection

CHUNK_BYTES = 256 * 1024
DEADLINE_SECONDS = 30.0
IMPORT_SECONDS = 3600.0


class Pawl:
    """One connection to Pawl; use it as a context manager."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._channels: dict[str, grpc.Channel] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for channel in self._channels.values():
            channel.close()

    def channel(self, name: str) -> grpc.Channel:
        """The gRPC channel to an endpoint, opened on first use."""
        if name not in self._channels:
            self._channels[name] = grpc.insecure_channel(
                self.connection.address(name),
                options=[("grpc.max_receive_message_length", 64 << 20), ("grpc.enable_http_proxy", 0)],
            )
        return self._channels[name]

    # --- tasks -------------------------------------------------------------------------------------

    def apply(self, task_file: Path, *, by: str) -> tuple[registry_pb2.Task, bool]:
        """Declare or change the task of a file; uploads its base first. Returns the task and whether it changed."""
        spec = read_task(task_file)
        base = find_base(spec.base, task_file.parent)
        digest = asyncio.run(self._upload(base))
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

    # --- data, runs, reports -----------------------------------------------------------------------

    def import_file(
        self, task: str, path: Path, *, columns: dict[str, str] | None = None, file_format: str = "", source: str = ""
    ) -> ingestion_pb2.Import:
        """Import a file; answers when every row is durable or quarantined."""
        header = ingestion_pb2.ImportHeader(
            task=task, name=path.name, format=file_format, columns=columns or {}, source=source or path.stem
        )

        def parts() -> Iterator[ingestion_pb2.ImportFileRequest]:
            yield ingestion_pb2.ImportFileRequest(header=header)
            with path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield ingestion_pb2.ImportFileRequest(chunk=chunk)

        if not path.is_file():
            raise InvalidInput(f"{path}: no such file" if not path.exists() else f"{path}: not a file", field="file")
        try:
            path.open("rb").close()
        except OSError as error:
            raise InvalidInput(f"{path}: cannot be read: {error.strerror}", field="file") from error
        with rpc("ingestion"):
            stub = ingestion_pb2_grpc.IngestionServiceStub(self.channel("ingestion"))
            done: ingestion_pb2.Import = getattr(stub.ImportFile(parts(), timeout=IMPORT_SECONDS), "import")
            return done

    def intake(self, task: str) -> ingestion_pb2.GetIntakeResponse:
        """Counts of what arrived for a task."""
        with rpc("ingestion"):
            stub = ingestion_pb2_grpc.IngestionServiceStub(self.channel("ingestion"))
            return stub.GetIntake(ingestion_pb2.GetIntakeRequest(task=task), timeout=DEADLINE_SECONDS)

    def dataset(self, task: str, number: int = 0) -> tuple[curation_pb2.Dataset, dict[str, Any]]:
        """A dataset version (0: the newest) and its report."""
        with rpc("curation"):
            stub = curation_pb2_grpc.CurationServiceStub(self.channel("curation"))
            answer = stub.GetDataset(curation_pb2.GetDatasetRequest(task=task, number=number), timeout=DEADLINE_SECONDS)
        return answer.dataset, json.loads(answer.report_json or "{}")

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

    def reports(self, task: str) -> list[evaluator_pb2.Report]:
        """Evaluation reports of a task, newest first."""
        with rpc("evaluator"):
            stub = evaluator_pb2_grpc.EvaluatorServiceStub(self.channel("evaluator"))
            return list(stub.ListReports(evaluator_pb2.ListReportsRequest(task=task), timeout=DEADLINE_SECONDS).reports)

    def report(self, report_id: str) -> dict[str, Any]:
        """One report, whole."""
        with rpc("evaluator"):
            stub = evaluator_pb2_grpc.EvaluatorServiceStub(self.channel("evaluator"))
            answer = stub.GetReport(evaluator_pb2.GetReportRequest(report_id=report_id), timeout=DEADLINE_SECONDS)
        if not answer.report_json:
            raise NotFound(f"report {report_id} is still being made", field="report_id")
        document: dict[str, Any] = json.loads(answer.report_json)
        return document

    def assessments(self, task: str, version: int = 0) -> list[dict[str, Any]]:
        """Assessments of live evidence, oldest first."""
        with rpc("evaluator"):
            stub = evaluator_pb2_grpc.EvaluatorServiceStub(self.channel("evaluator"))
            request = evaluator_pb2.ListAssessmentsRequest(task=task, version=version)
            return [
                json.loads(each) for each in stub.ListAssessments(request, timeout=DEADLINE_SECONDS).assessments_json
            ]

    # --- inference and feedback --------------------------------------------------------------------

    def generate(
        self, model: str, text: str, *, user: str = "", max_tokens: int | None = None
    ) -> inference_pb2.GenerateResponse:
        """One answer to one user message."""
        sampling = inference_pb2.Sampling(max_tokens=max_tokens) if max_tokens else None
        request = inference_pb2.GenerateRequest(
            model=model, messages=[inference_pb2.Message(role="user", content=text)], sampling=sampling, user=user
        )
        with rpc("gateway"):
            stub = inference_pb2_grpc.InferenceServiceStub(self.channel("grpc"))
            return stub.Generate(request, timeout=120.0, metadata=self._credentials())

    def feedback(self, task: str, events: Iterable[dict[str, Any]]) -> list[int]:
        """Publish feedback events; returns their positions in the stream once the broker has them."""
        request = feedback_pb2.PublishFeedbackRequest(task=task, events_json=[json.dumps(event) for event in events])
        with rpc("gateway"):
            stub = feedback_pb2_grpc.FeedbackServiceStub(self.channel("grpc"))
            return list(stub.PublishFeedback(request, timeout=DEADLINE_SECONDS, metadata=self._credentials()).sequences)

    # --- inside ------------------------------------------------------------------------------------

    def _credentials(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.connection.api_key}"),)

    def _registry(self) -> registry_pb2_grpc.RegistryServiceStub:
        return registry_pb2_grpc.RegistryServiceStub(self.channel("registry"))

    async def _upload(self, base: Path) -> str:
        place = self.connection
        store = ObjectStore(
            place.address("s3"), place.s3_access_key, place.s3_secret_key, place.s3_bucket, place.s3_region
        )
        return await store.put_tree(base, kind="base", metadata={})


def read_task(path: Path) -> TaskSpec:
    """The task of a file; InvalidInput names what is wrong with it."""
    try:
        return parse_task(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}", field="file") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path}: is not UTF-8 text (byte {error.start})", field="file") from error


@contextmanager
def rpc(service: str) -> Iterator[None]:
    """Turn gRPC failures into the error tree; an absent service is named."""
    try:
        yield
    except grpc.RpcError as error:
        failure = errors_from_rpc(cast("grpc.Call", error))  # the error of a blocking call is the call
        if failure.reason == Unavailable.default_reason:
            raise Unavailable(f"the {service} does not answer: is the stack up? (`pawl status`) {failure}") from error
        raise failure from error
