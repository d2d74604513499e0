"""Reports and assessments over gRPC: translates only."""

import json
from typing import Any

from libs.artifacts import ObjectStore
from libs.contracts.stubs.pawl.evaluator.v1 import evaluator_pb2, evaluator_pb2_grpc
from services.evaluator.store import Ledger, Reports
from services.evaluator.store.reports import ReportRow

SERVICE = "pawl.evaluator.v1.EvaluatorService"
register = evaluator_pb2_grpc.add_EvaluatorServiceServicer_to_server


class EvaluatorServicer(evaluator_pb2_grpc.EvaluatorServiceServicer):
    """Answers questions about reports and assessments."""

    def __init__(self, reports: Reports, ledger: Ledger, objects: ObjectStore) -> None:
        self._reports = reports
        self._ledger = ledger
        self._objects = objects

    async def GetReport(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002 - named by the protocol
        """One report, whole; `report_json` is empty while it is not completed."""
        row = await self._reports.get(request.report_id)
        text = ""
        if row.report_digest:
            text = (await self._objects.for_tenant(row.tenant).get_bytes(row.report_digest)).decode()
        return evaluator_pb2.GetReportResponse(report=_report(row), report_json=text)

    async def ListReports(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Reports of a task, newest first."""
        rows = await self._reports.of_task(request.task)
        return evaluator_pb2.ListReportsResponse(reports=[_report(row) for row in rows])

    async def ListAssessments(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Assessments of a task, oldest first."""
        found = await self._ledger.assessments(request.task, request.version or None)
        return evaluator_pb2.ListAssessmentsResponse(assessments_json=[json.dumps(row) for row in found])


def _report(row: ReportRow) -> Any:
    return evaluator_pb2.Report(
        report_id=row.report_id,
        task=row.task,
        version=row.version,
        verdict=row.verdict,
        report_digest=row.report_digest,
    )
