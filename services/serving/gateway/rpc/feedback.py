"""FeedbackService on the wire: translate only."""

from libs.contracts.stubs.pawl.serving.v1 import feedback_pb2, feedback_pb2_grpc
from services.serving.gateway.domain import FeedbackDoor, Tables
from services.serving.gateway.rpc.metadata import Context, metadata_of

SERVICE = "pawl.serving.v1.FeedbackService"


class FeedbackServicer(feedback_pb2_grpc.FeedbackServiceServicer):
    """Feedback over gRPC."""

    def __init__(self, *, tables: Tables, feedback: FeedbackDoor) -> None:
        self._tables = tables
        self._feedback = feedback

    async def PublishFeedback(  # noqa: N802 - the generated name
        self, request: feedback_pb2.PublishFeedbackRequest, context: Context
    ) -> feedback_pb2.PublishFeedbackResponse:
        """Store events; answers once the stream has them all."""
        caller = self._tables.caller(metadata_of(context).get("authorization", ""))
        documents = [each.encode() for each in request.events_json]
        sequences = await self._feedback.publish(caller, request.task, documents, "events_json")
        return feedback_pb2.PublishFeedbackResponse(sequences=sequences)
