"""Reports and assessments over gRPC: translates only."""

import asyncio
import json
from typing import Any, Protocol

from libs.artifacts import ObjectStore
from libs.contracts.stubs.pawl.evaluator.v1 import evaluator_pb2, evaluator_pb2_grpc
from services.evaluator.domain.page import page
from services.evaluator.store import Ledger, Reports
from services.evaluator.store.reports import ReportRow

TENANT = "default"
SERVICE = "pawl.evaluator.v1.EvaluatorService"
register = evaluator_pb2_grpc.add_EvaluatorServiceServicer_to_server


class Asks(Protocol):
    """Takes evaluations asked for by hand."""

    async def ask(
        self, tenant: str, task: str, version: int, suite_digest: str, evaluation_json: str, report_id: str
    ) -> ReportRow:
        """Begin a report; asking again under the same id changes nothing."""


class EvaluatorServicer(evaluator_pb2_grpc.EvaluatorServiceServicer):
    """Answers questions about reports and assessments."""

    def __init__(self, reports: Reports, ledger: Ledger, objects: ObjectStore, asked: Asks) -> None:
        self._reports = reports
        self._asked = asked
        self._ledger = ledger
        self._objects = objects

    async def GetReport(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002 - named by the protocol
        """One report, whole; `report_json` is empty while it is not completed."""
        row = await self._reports.get(request.report_id)
        text = ""
        if row.report_digest:
            text = (await self._objects.for_tenant(row.tenant).get_bytes(row.report_digest)).decode()
        html = await asyncio.to_thread(page, json.loads(text)) if text and request.with_html else ""
        return evaluator_pb2.GetReportResponse(report=_report(row), report_json=text, report_html=html)

    async def StartEvaluation(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Begin a report by hand; it decides nothing."""
        row = await self._asked.ask(
            TENANT, request.task, request.version, request.suite_digest, request.evaluation_json, request.report_id
        )
        return evaluator_pb2.StartEvaluationResponse(report=_report(row))

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
        state=row.state,
        reason=row.reason,
    )
