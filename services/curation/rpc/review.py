"""gRPC of the review queue and of synthesis: translation only."""

import json
from collections.abc import Awaitable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

from libs.contracts.errors import PawlError
from libs.contracts.stubs.pawl.curation.v1 import review_pb2 as pb
from libs.contracts.stubs.pawl.curation.v1.review_pb2_grpc import ReviewServiceServicer
from libs.outbox.database import Database
from services.curation.domain import labelstudio
from services.curation.domain.review import APPROVED, EDITED, PENDING, REJECTED
from services.curation.store import review as store
from services.curation.store.review import ReviewItem, Verdict

_LISTED, _MOST_LISTED = 50, 1_000
_EXPORTED, _MOST_EXPORTED = 1_000, 10_000


class Written(Protocol):
    """What came of a synthesis."""

    @property
    def calls(self) -> int: ...  # noqa: D102
    @property
    def queued(self) -> int: ...  # noqa: D102
    @property
    def dropped(self) -> Mapping[str, int]: ...  # noqa: D102
    @property
    def categories(self) -> Mapping[str, int]: ...  # noqa: D102


class Writes(Protocol):
    """Asks the teacher of a task."""

    def __call__(self, tenant: str, task: str, count: int, category: str) -> Awaitable[Written]:
        """About `count` examples of a category, empty for the weakest."""
        ...


class ReviewServicer(ReviewServiceServicer):
    """Translates calls."""

    def __init__(self, database: Database, *, write: Writes, tenant: str) -> None:
        self._database = database
        self._write = write
        self._tenant = tenant

    async def ListReview(self, request: pb.ListReviewRequest, context: Any) -> pb.ListReviewResponse:  # noqa: N802, ARG002
        """Items of a state, the most valuable first."""
        state = "" if request.state == "all" else request.state or PENDING
        limit = min(request.limit or _LISTED, _MOST_LISTED)
        items, total = await store.listed(
            self._database, self._tenant, request.task, state=state, kind=request.kind, limit=limit, skip=request.skip
        )
        return pb.ListReviewResponse(items=[_message(each) for each in items], total=total)

    async def GetReview(self, request: pb.GetReviewRequest, context: Any) -> pb.GetReviewResponse:  # noqa: N802, ARG002
        """One item."""
        found = await store.get(self._database, self._tenant, request.task, request.item_id)
        return pb.GetReviewResponse(item=_message(found))

    async def Decide(self, request: pb.DecideRequest, context: Any) -> pb.DecideResponse:  # noqa: N802, ARG002
        """Approve, edit or reject."""
        given = {name: getattr(request, name) for name in ("input", "answer", "category") if request.HasField(name)}
        verdict = Verdict(request.item_id, request.state, request.by, request.note, **given)
        async with self._database.unit() as unit:
            item = await store.decide(unit, self._tenant, request.task, verdict)
        return pb.DecideResponse(item=_message(item))

    async def ExportReview(self, request: pb.ExportReviewRequest, context: Any) -> pb.ExportReviewResponse:  # noqa: N802, ARG002
        """Open items for Label Studio."""
        limit = min(request.limit or _EXPORTED, _MOST_EXPORTED)
        items, _ = await store.listed(self._database, self._tenant, request.task, kind=request.kind, limit=limit)
        tasks = labelstudio.tasks([asdict(each) for each in items])
        return pb.ExportReviewResponse(tasks_json=json.dumps(tasks, ensure_ascii=False), config_xml=labelstudio.CONFIG)

    async def ImportReview(self, request: pb.ImportReviewRequest, context: Any) -> pb.ImportReviewResponse:  # noqa: N802, ARG002
        """Decisions from Label Studio; each stands on its own."""
        found, problems = labelstudio.decisions(request.export_json, request.by)
        counts = dict.fromkeys((APPROVED, EDITED, REJECTED), 0)
        for decision in found:
            try:
                async with self._database.unit() as unit:
                    await store.decide(unit, self._tenant, request.task, Verdict(**decision))
            except PawlError as error:
                problems.append(f"item {decision['item_id']}: {error}")
                continue
            counts[decision["state"]] += 1
        return pb.ImportReviewResponse(**counts, problems=problems)

    async def Synthesise(self, request: pb.SynthesiseRequest, context: Any) -> pb.SynthesiseResponse:  # noqa: N802, ARG002
        """Ask the teacher for examples."""
        found = await self._write(self._tenant, request.task, request.count, request.category)
        return pb.SynthesiseResponse(
            calls=found.calls, queued=found.queued, dropped=found.dropped, categories=found.categories
        )


def _message(item: ReviewItem) -> pb.ReviewItem:
    message = pb.ReviewItem(
        item_id=item.item_id,
        row_id=item.row_id,
        kind=item.kind,
        state=item.state,
        reason=item.reason,
        input=item.input,
        answer=item.answer,
        category=item.category or "",
        suggestion=item.suggestion,
        doubt=item.doubt,
        value=item.value,
        lineage_json=item.lineage,
        dataset=item.dataset,
        decided_by=item.decided_by,
        note=item.note,
    )
    for name in ("new_input", "new_answer", "new_category"):
        value = getattr(item, name)
        if value is not None:
            setattr(message, name, value)
    return message
