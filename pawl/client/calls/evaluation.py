"""Evaluation reports and assessments of live evidence."""

import asyncio
import json
from pathlib import Path
from typing import Any

from libs.contracts.errors import NotFound
from libs.contracts.stubs.pawl.evaluator.v1 import evaluator_pb2, evaluator_pb2_grpc
from libs.contracts.task import EvaluationSpec
from pawl.client.attachments import put_items
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

    def report_page(self, report_id: str) -> str:
        """One report as a self-contained HTML page."""
        with rpc("evaluator"):
            stub = evaluator_pb2_grpc.EvaluatorServiceStub(self.channel("evaluator"))
            request = evaluator_pb2.GetReportRequest(report_id=report_id, with_html=True)
            answer = stub.GetReport(request, timeout=DEADLINE_SECONDS)
        if not answer.report_html:
            raise NotFound(f"report {report_id} is still being made", field="report_id")
        return answer.report_html

    def report_state(self, report_id: str) -> evaluator_pb2.Report:
        """Where a report stands: running, completed or failed."""
        with rpc("evaluator"):
            stub = evaluator_pb2_grpc.EvaluatorServiceStub(self.channel("evaluator"))
            request = evaluator_pb2.GetReportRequest(report_id=report_id)
            return stub.GetReport(request, timeout=DEADLINE_SECONDS).report

    def evaluate(
        self,
        task: str,
        version: int,
        *,
        suite: Path | None = None,
        evaluation: EvaluationSpec | None = None,
        report_id: str = "",
    ) -> evaluator_pb2.Report:
        """Begin a report on a version in the route; it decides nothing.

        Args:
            task: Name of the task.
            version: Number of the version; 0 is the bare base.
            suite: A file of items, one JSON object a line; by default the suite of the task's newest report.
            evaluation: In place of the task's own evaluation section.
            report_id: Makes asking twice one report.
        """
        digest = asyncio.run(self._upload_suite(suite)) if suite is not None else ""
        request = evaluator_pb2.StartEvaluationRequest(
            task=task,
            version=version,
            suite_digest=digest,
            evaluation_json=evaluation.model_dump_json(by_alias=True) if evaluation is not None else "",
            report_id=report_id,
        )
        with rpc("evaluator"):
            stub = evaluator_pb2_grpc.EvaluatorServiceStub(self.channel("evaluator"))
            return stub.StartEvaluation(request, timeout=DEADLINE_SECONDS).report

    async def _upload_suite(self, file: Path) -> str:
        return await put_items(self.connection.objects(), file)

    def assessments(self, task: str, version: int = 0) -> list[dict[str, Any]]:
        """Assessments of live evidence, oldest first."""
        with rpc("evaluator"):
            stub = evaluator_pb2_grpc.EvaluatorServiceStub(self.channel("evaluator"))
            request = evaluator_pb2.ListAssessmentsRequest(task=task, version=version)
            return [
                json.loads(each) for each in stub.ListAssessments(request, timeout=DEADLINE_SECONDS).assessments_json
            ]
