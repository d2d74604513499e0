"""gRPC of dataset versions: translation only."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from libs.artifacts import ObjectStore
from libs.contracts.errors import InvalidInput, NotFound
from libs.contracts.stubs.pawl.curation.v1 import curation_pb2 as pb
from libs.contracts.stubs.pawl.curation.v1.curation_pb2_grpc import CurationServiceServicer
from libs.outbox.database import Database
from services.curation.domain.rules import RULES, Rule, optional, rule_of
from services.curation.store import datasets as store
from services.curation.store import policy
from services.curation.store.datasets import Dataset
from services.curation.store.erasures import Erasure
from services.curation.store.policy import Override


class AuditFiles(Protocol):
    """An audit: its two documents and their digests."""

    @property
    def as_json(self) -> str: ...  # noqa: D102
    @property
    def page(self) -> str: ...  # noqa: D102
    @property
    def json_digest(self) -> str: ...  # noqa: D102
    @property
    def page_digest(self) -> str: ...  # noqa: D102


class Looks(Protocol):
    """What can be asked about rows and versions."""

    async def audit(self, tenant: str, task: str) -> AuditFiles:
        """The audit of a task."""
        ...

    async def categories(self, tenant: str, task: str, count: int) -> dict[str, Any]:
        """Categories proposed."""
        ...

    async def history(self, tenant: str, task: str, row_id: str, number: int) -> tuple[int, list[dict[str, Any]]]:
        """A row's history."""
        ...

    async def compare(self, tenant: str, task: str, before: int, after: int) -> dict[str, Any]:
        """What changed between two versions."""
        ...

    async def document(self, tenant: str, task: str, number: int) -> tuple[str, str]:
        """Card and Croissant document."""
        ...


class Erases(Protocol):
    """Erases subjects."""

    def __call__(self, tenant: str, task: str, user: str, *, by: str, reason: str) -> Awaitable[tuple[Erasure, int]]:
        """The erasure, and how many review items went."""
        ...


class CurationServicer(CurationServiceServicer):
    """Translates calls."""

    def __init__(
        self,
        database: Database,
        objects: Callable[[str], ObjectStore],
        *,
        looking: Looks,
        erase: Erases,
        tenant: str,
    ) -> None:
        self._database = database
        self._objects = objects
        self._looking = looking
        self._erase = erase
        self._tenant = tenant

    async def GetDataset(self, request: pb.GetDatasetRequest, context: Any) -> pb.GetDatasetResponse:  # noqa: N802, ARG002
        """One version with its report, which is empty once erased."""
        dataset = await store.get(self._database, self._tenant, request.task, request.number)
        try:
            report = await self._objects(self._tenant).get_bytes(dataset.report_digest)
        except NotFound:
            if not dataset.quarantined:
                raise
            report = b""
        return pb.GetDatasetResponse(dataset=_message(dataset), report_json=report.decode())

    async def ListDatasets(self, request: pb.ListDatasetsRequest, context: Any) -> pb.ListDatasetsResponse:  # noqa: N802, ARG002
        """Versions of a task, newest first."""
        found = await store.listed(self._database, self._tenant, request.task)
        return pb.ListDatasetsResponse(datasets=[_message(each) for each in found])

    async def AuditTask(self, request: pb.AuditTaskRequest, context: Any) -> pb.AuditTaskResponse:  # noqa: N802, ARG002
        """A report on what is there."""
        found = await self._looking.audit(self._tenant, request.task)
        return pb.AuditTaskResponse(
            audit_json=found.as_json,
            audit_html=found.page,
            json_digest=found.json_digest,
            html_digest=found.page_digest,
        )

    async def GetCard(self, request: pb.GetCardRequest, context: Any) -> pb.GetCardResponse:  # noqa: N802, ARG002
        """Card and Croissant document of a version."""
        card, document = await self._looking.document(self._tenant, request.task, request.number)
        return pb.GetCardResponse(card=card, croissant_json=document)

    async def DiffDatasets(self, request: pb.DiffDatasetsRequest, context: Any) -> pb.DiffDatasetsResponse:  # noqa: N802, ARG002
        """What changed between two versions."""
        if request.to == 0:
            raise InvalidInput("name the version to compare with", field="to")
        found = await self._looking.compare(self._tenant, request.task, getattr(request, "from"), request.to)
        return pb.DiffDatasetsResponse(diff_json=json.dumps(found))

    async def GetHistory(self, request: pb.GetHistoryRequest, context: Any) -> pb.GetHistoryResponse:  # noqa: N802, ARG002
        """Everything that happened to one row."""
        number, entries = await self._looking.history(self._tenant, request.task, request.row_id, request.number)
        return pb.GetHistoryResponse(
            number=number,
            split=entries[-1]["split"],
            group=entries[-1]["group"],
            entries=[_entry(each) for each in entries],
        )

    async def ListRules(self, request: pb.ListRulesRequest, context: Any) -> pb.ListRulesResponse:  # noqa: N802, ARG002
        """Every rule, and what was decided about it."""
        decided = {each.rule: each for each in await policy.overrides(self._database, self._tenant, request.task)}
        return pb.ListRulesResponse(rules=[_rule(rule, decided.get(rule.name)) for rule in RULES.values()])

    async def SetRule(self, request: pb.SetRuleRequest, context: Any) -> pb.SetRuleResponse:  # noqa: N802, ARG002
        """Undo a rule or restore it."""
        optional([request.rule])
        if not request.by or not request.reason:
            raise InvalidInput("give a name and a reason", field="by" if not request.by else "reason")
        await store.known_task(self._database, self._tenant, request.task)
        async with self._database.unit() as unit:
            await policy.override(
                unit, self._tenant, request.task, request.rule, undone=request.undone, by=request.by,
                reason=request.reason,
            )  # fmt: skip
        decided = await policy.overrides(self._database, self._tenant, request.task)
        mine = next(each for each in decided if each.rule == request.rule)
        return pb.SetRuleResponse(rule=_rule(rule_of(request.rule), mine))

    async def ProposeCategories(  # noqa: N802 - named by the protocol
        self,
        request: pb.ProposeCategoriesRequest,
        context: Any,  # noqa: ARG002
    ) -> pb.ProposeCategoriesResponse:
        """Categories proposed by clustering."""
        found = await self._looking.categories(self._tenant, request.task, request.count)
        return pb.ProposeCategoriesResponse(proposal_json=json.dumps(found, ensure_ascii=False))

    async def EraseSubject(self, request: pb.EraseSubjectRequest, context: Any) -> pb.EraseSubjectResponse:  # noqa: N802, ARG002
        """Erase a subject."""
        erasure, items = await self._erase(
            self._tenant, request.task, request.user, by=request.by, reason=request.reason
        )
        synthetic = sum(row_id.startswith("syn-") for row_id in erasure.row_ids)
        return pb.EraseSubjectResponse(
            user_hash=erasure.user,
            rows=len(erasure.row_ids) - synthetic,
            synthetic_rows=synthetic,
            review_items=items,
            state=erasure.state,
            touched=[pb.Touched(**each) for each in erasure.touched],
        )


def _message(dataset: Dataset) -> pb.Dataset:
    return pb.Dataset(
        task=dataset.task,
        number=dataset.number,
        digest=dataset.digest,
        report_digest=dataset.report_digest,
        suite_digest=dataset.suite_digest,
        suite_version=dataset.suite_version,
        splits=dataset.splits,
        removed=dataset.removed,
        categories=dataset.categories,
        watermark=dataset.watermark,
        ledger_digest=dataset.ledger_digest,
        quarantined=dataset.quarantined or "",
    )


def _entry(entry: Mapping[str, Any]) -> pb.LedgerEntry:
    return pb.LedgerEntry(
        step=entry["step"],
        rule=entry["rule"],
        version=entry["version"],
        outcome=entry["outcome"],
        evidence=entry["evidence"],
        other=entry["other"],
        final=entry["final"],
        says=rule_of(entry["rule"]).says,
    )


def _rule(rule: Rule, decided: Override | None) -> pb.Rule:
    return pb.Rule(
        name=rule.name,
        step=rule.step,
        version=rule.version,
        outcome=str(rule.outcome),
        says=rule.says,
        optional=rule.optional,
        undone=decided is not None and decided.undone,
        decided_by=decided.by if decided is not None else "",
        reason=decided.reason if decided is not None else "",
    )
