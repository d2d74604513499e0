"""Services that answer by real gRPC with what a test tells them."""

# ruff: noqa: N802 - gRPC chose the names

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from libs.contracts.errors import NotFound
from libs.contracts.estimates import Verdict
from libs.contracts.events import Assessment
from libs.contracts.ids import digest_bytes
from libs.contracts.inference import Role
from libs.contracts.routes import Arm, Route
from libs.contracts.stubs.pawl.evaluator.v1 import evaluator_pb2
from libs.contracts.stubs.pawl.evaluator.v1.evaluator_pb2_grpc import (
    EvaluatorServiceServicer,
    add_EvaluatorServiceServicer_to_server,
)
from libs.contracts.stubs.pawl.registry.v1 import registry_pb2 as pb
from libs.contracts.stubs.pawl.registry.v1.registry_pb2_grpc import (
    RegistryServiceServicer,
    add_RegistryServiceServicer_to_server,
)
from libs.runtime.grpc_server import GrpcServer

BASE, ADAPTER = digest_bytes(b"base"), digest_bytes(b"adapter")
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
HOSTILE = "<script>alert('x')</script>"
START = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def stamp(minutes: int) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(START + timedelta(minutes=minutes))
    return message


def task() -> pb.Task:
    route = Route(
        tenant="default", task="triage", generation=6, salt="s",
        arms=(
            Arm(version=0, role=Role.STABLE, share=0.75, digest=BASE, base_digest=BASE),
            Arm(version=1, role=Role.CANARY, share=0.25, digest=ADAPTER, base_digest=BASE, adapter_digest=ADAPTER),
        ),
    )  # fmt: skip
    spec = {"task": "triage", "base": "base", "description": f"Sorts tickets {HOSTILE}"}
    return pb.Task(
        name="triage", revision=3, spec_json=json.dumps(spec), base_digest=BASE, route_json=route.model_dump_json()
    )


def turn() -> pb.Turn:
    states = ("curating", "training", "loading", "evaluating", "shadow", "canary")
    return pb.Turn(
        turn_id="turn-1", task="triage", trigger="corrections", state="canary", reason=f"because {HOSTILE}",
        traceparent=f"00-{TRACE_ID}-00f067aa0ba902b7-01", version=1, dataset_number=1, run_id="run-1",
        report_id="report-1", opened_at=stamp(0),
        steps=[pb.Step(state=state, reason=f"{state} began", at=stamp(at)) for at, state in enumerate(states)],
        progress_json=json.dumps(
            {"step": 90, "total_steps": 120, "loss": 0.5123, "curve": [[1, 2.0], [60, 0.9], [90, 0.5]], "epoch": 2}
        ),
    )  # fmt: skip


def version() -> pb.Version:
    def estimate(value: float) -> dict[str, Any]:
        return {"value": value, "low": value - 0.05, "high": value + 0.05, "n": 200}

    report = {
        "verdict": "pass",
        "report_digest": digest_bytes(b"report"),
        "arms": {"fine_tuned": {"exact_match": estimate(0.91)}, "base": {"exact_match": estimate(0.42)}},
        "slices": {"billing": {"fine_tuned": {"exact_match": estimate(0.88)}}},
        "gates": [{"gate": "better-than-base", "verdict": "pass", "reason": "0.49 above", "metric": "exact_match"}],
    }
    return pb.Version(
        task="triage", number=1, digest=ADAPTER, base_digest=BASE, adapter_digest=ADAPTER, status="canary",
        turn_id="turn-1", evidence_json=json.dumps({"report": report}),
    )  # fmt: skip


class Registry(RegistryServiceServicer):
    async def ListTasks(self, request: Any, context: Any) -> pb.ListTasksResponse:
        return pb.ListTasksResponse(tasks=[task()])

    async def ListTurns(self, request: Any, context: Any) -> pb.ListTurnsResponse:
        return pb.ListTurnsResponse(turns=[turn()])

    async def ListVersions(self, request: Any, context: Any) -> pb.ListVersionsResponse:
        return pb.ListVersionsResponse(versions=[pb.Version(number=0, digest=BASE, status="stable"), version()])

    async def ListDecisions(self, request: Any, context: Any) -> pb.ListDecisionsResponse:
        if request.task != "triage":
            raise NotFound(f"no task {request.task!r}; did you mean 'triage'?", field="task")
        return pb.ListDecisionsResponse(
            decisions=[
                pb.Decision(sequence=1, at=stamp(0), action="applied", by="ada", reason="revision 1"),
                pb.Decision(
                    sequence=2, at=stamp(9), action="override", by=HOSTILE, reason="new product",
                    evidence_json=json.dumps({"gates": ["better-than-base"]}),
                ),
            ]
        )  # fmt: skip


class Evaluator(EvaluatorServiceServicer):
    async def ListAssessments(self, request: Any, context: Any) -> evaluator_pb2.ListAssessmentsResponse:
        told = Assessment(
            tenant="default", task="triage", generation=6, stage="canary", version=1, verdict=Verdict.INCONCLUSIVE,
            reason="7 of 20 windows", e_value=1.25, alpha=0.01, windows={"canary": 7, "stable": 21},
            bad_windows={"canary": 1}, assessed_at=START,
        )  # fmt: skip
        return evaluator_pb2.ListAssessmentsResponse(assessments_json=[told.model_dump_json()])


def registry_server() -> GrpcServer:
    server = GrpcServer("127.0.0.1", 0)
    server.add(
        add_RegistryServiceServicer_to_server,
        Registry(),  # type: ignore[abstract]
        "pawl.registry.v1.RegistryService",
    )
    return server


def evaluator_server() -> GrpcServer:
    server = GrpcServer("127.0.0.1", 0)
    server.add(
        add_EvaluatorServiceServicer_to_server,
        Evaluator(),  # type: ignore[abstract]
        "pawl.evaluator.v1.EvaluatorService",
    )
    return server
