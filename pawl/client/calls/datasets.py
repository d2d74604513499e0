"""Dataset versions: what is in them, why, and what may be changed for the next one."""

import json
from typing import Any

from libs.contracts.stubs.pawl.curation.v1 import curation_pb2 as pb
from libs.contracts.stubs.pawl.curation.v1 import curation_pb2_grpc
from pawl.client.calls.base import DEADLINE_SECONDS, Calls, rpc

LONG_SECONDS = 3600.0
"""Deadline of what reads every row of a task."""


class DatasetCalls(Calls):
    """Calls to curation about datasets."""

    def dataset(self, task: str, number: int = 0) -> tuple[pb.Dataset, dict[str, Any]]:
        """A dataset version (0: the newest) and its report."""
        with rpc("curation"):
            answer = self._datasets().GetDataset(
                pb.GetDatasetRequest(task=task, number=number), timeout=DEADLINE_SECONDS
            )
        return answer.dataset, json.loads(answer.report_json or "{}")

    def datasets(self, task: str) -> list[pb.Dataset]:
        """Dataset versions of a task, newest first."""
        with rpc("curation"):
            answer = self._datasets().ListDatasets(pb.ListDatasetsRequest(task=task), timeout=DEADLINE_SECONDS)
        return list(answer.datasets)

    def audit(self, task: str) -> pb.AuditTaskResponse:
        """A report on the rows that are there, as JSON and as a page."""
        with rpc("curation"):
            return self._datasets().AuditTask(pb.AuditTaskRequest(task=task), timeout=LONG_SECONDS)

    def card(self, task: str, number: int = 0) -> pb.GetCardResponse:
        """Card and Croissant document of a version."""
        with rpc("curation"):
            return self._datasets().GetCard(pb.GetCardRequest(task=task, number=number), timeout=DEADLINE_SECONDS)

    def diff(self, task: str, before: int, after: int) -> dict[str, Any]:
        """What changed between two versions."""
        request = pb.DiffDatasetsRequest(task=task, to=after)
        setattr(request, "from", before)
        with rpc("curation"):
            answer = self._datasets().DiffDatasets(request, timeout=LONG_SECONDS)
        return dict(json.loads(answer.diff_json))

    def history(self, task: str, row_id: str, number: int = 0) -> pb.GetHistoryResponse:
        """Everything that happened to one row."""
        request = pb.GetHistoryRequest(task=task, row_id=row_id, number=number)
        with rpc("curation"):
            return self._datasets().GetHistory(request, timeout=DEADLINE_SECONDS)

    def rules(self, task: str) -> list[pb.Rule]:
        """The rules of curation, and which are undone for the task."""
        with rpc("curation"):
            return list(self._datasets().ListRules(pb.ListRulesRequest(task=task), timeout=DEADLINE_SECONDS).rules)

    def set_rule(self, task: str, rule: str, *, undone: bool, by: str, reason: str) -> pb.Rule:
        """Undo a rule for the versions to come, or restore it."""
        request = pb.SetRuleRequest(task=task, rule=rule, undone=undone, by=by, reason=reason)
        with rpc("curation"):
            return self._datasets().SetRule(request, timeout=DEADLINE_SECONDS).rule

    def categories(self, task: str, count: int = 0) -> dict[str, Any]:
        """Categories proposed by clustering."""
        request = pb.ProposeCategoriesRequest(task=task, count=count)
        with rpc("curation"):
            return dict(json.loads(self._datasets().ProposeCategories(request, timeout=LONG_SECONDS).proposal_json))

    def erase(self, task: str, user: str, *, by: str, reason: str) -> pb.EraseSubjectResponse:
        """Erase a subject; names the dataset versions touched."""
        request = pb.EraseSubjectRequest(task=task, user=user, by=by, reason=reason)
        with rpc("curation"):
            return self._datasets().EraseSubject(request, timeout=LONG_SECONDS)

    def _datasets(self) -> curation_pb2_grpc.CurationServiceStub:
        return curation_pb2_grpc.CurationServiceStub(self.channel("curation"))
