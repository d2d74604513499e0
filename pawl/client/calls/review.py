"""The review queue, and the teacher that fills it."""

from typing import Any

from libs.contracts.stubs.pawl.curation.v1 import review_pb2 as pb
from libs.contracts.stubs.pawl.curation.v1 import review_pb2_grpc
from pawl.client.calls.base import DEADLINE_SECONDS, Calls, rpc

SYNTHESIS_SECONDS = 3600.0


class ReviewCalls(Calls):
    """Calls to curation about what a person decides."""

    def review(self, task: str, *, state: str = "", kind: str = "", limit: int = 0) -> pb.ListReviewResponse:
        """Items of a state (empty: open ones), the most valuable first, and how many there are."""
        request = pb.ListReviewRequest(task=task, state=state, kind=kind, limit=limit)
        with rpc("curation"):
            return self._review().ListReview(request, timeout=DEADLINE_SECONDS)

    def review_item(self, task: str, item_id: str) -> pb.ReviewItem:
        """One item."""
        with rpc("curation"):
            request = pb.GetReviewRequest(task=task, item_id=item_id)
            return self._review().GetReview(request, timeout=DEADLINE_SECONDS).item

    def decide(
        self, task: str, item_id: str, state: str, *, by: str, note: str = "", **edit: str | None
    ) -> pb.ReviewItem:
        """Approve, edit (`input`, `answer`, `category`) or reject an item."""
        given: dict[str, Any] = {name: value for name, value in edit.items() if value is not None}
        request = pb.DecideRequest(task=task, item_id=item_id, state=state, by=by, note=note, **given)
        with rpc("curation"):
            return self._review().Decide(request, timeout=DEADLINE_SECONDS).item

    def export_review(self, task: str, *, kind: str = "", limit: int = 0) -> pb.ExportReviewResponse:
        """Open items as Label Studio tasks, and the labelling configuration."""
        request = pb.ExportReviewRequest(task=task, kind=kind, limit=limit)
        with rpc("curation"):
            return self._review().ExportReview(request, timeout=DEADLINE_SECONDS)

    def import_review(self, task: str, export: str, *, by: str) -> pb.ImportReviewResponse:
        """Decisions from a Label Studio export."""
        request = pb.ImportReviewRequest(task=task, export_json=export, by=by)
        with rpc("curation"):
            return self._review().ImportReview(request, timeout=DEADLINE_SECONDS)

    def synthesise(self, task: str, count: int, *, category: str, by: str) -> pb.SynthesiseResponse:
        """Ask the task's teacher for examples; they wait in the queue."""
        request = pb.SynthesiseRequest(task=task, count=count, category=category, by=by)
        with rpc("curation"):
            return self._review().Synthesise(request, timeout=SYNTHESIS_SECONDS)

    def _review(self) -> review_pb2_grpc.ReviewServiceStub:
        return review_pb2_grpc.ReviewServiceStub(self.channel("curation"))
