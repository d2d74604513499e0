"""Evaluation reports and assessments of live evidence."""

import json
from typing import Any

from libs.contracts.errors import NotFound
from libs.contracts.stubs.pawl.evaluator.v1 import evaluator_pb2, evaluator_pb2_grpc
from pawl.client.calls.base import DEADLINE_SECONDS, Calls, rpc


class EvaluationCalls(Calls):
    """Calls to the evaluator."""

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
