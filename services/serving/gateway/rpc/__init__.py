"""The gateway's gRPC door: inference, feedback, and what operators ask."""

from typing import Any

from libs.contracts.stubs.pawl.serving.v1 import feedback_pb2_grpc, inference_pb2_grpc, operations_pb2_grpc
from services.serving.gateway.rpc import feedback, inference, operations
from services.serving.gateway.rpc.feedback import FeedbackServicer
from services.serving.gateway.rpc.inference import InferenceServicer
from services.serving.gateway.rpc.operations import OperationsServicer

__all__ = ["FeedbackServicer", "InferenceServicer", "OperationsServicer", "register"]


def register(server: Any, answers: InferenceServicer, door: FeedbackServicer, desk: OperationsServicer) -> None:
    """Add the servicers to a `GrpcServer`."""
    server.add(inference_pb2_grpc.add_InferenceServiceServicer_to_server, answers, inference.SERVICE)
    server.add(feedback_pb2_grpc.add_FeedbackServiceServicer_to_server, door, feedback.SERVICE)
    server.add(operations_pb2_grpc.add_OperationsServiceServicer_to_server, desk, operations.SERVICE)
