"""Inference and feedback, through the gateway's gRPC door."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from libs.contracts.stubs.pawl.serving.v1 import (
    feedback_pb2,
    feedback_pb2_grpc,
    inference_pb2,
    inference_pb2_grpc,
    operations_pb2,
    operations_pb2_grpc,
)
from pawl.client.calls.base import DEADLINE_SECONDS, Calls, rpc


class ServingCalls(Calls):
    """Calls to the gateway."""

    def generate(
        self, model: str, text: str, *, user: str = "", max_tokens: int | None = None
    ) -> inference_pb2.GenerateResponse:
        """One answer to one user message."""
        sampling = inference_pb2.Sampling(max_tokens=max_tokens) if max_tokens else None
        request = inference_pb2.GenerateRequest(
            model=model, messages=[inference_pb2.Message(role="user", content=text)], sampling=sampling, user=user
        )
        with rpc("gateway"):
            stub = inference_pb2_grpc.InferenceServiceStub(self.channel("grpc"))
            return stub.Generate(request, timeout=120.0, metadata=self.credentials())

    def explain_route(
        self, model: str, *, user: str = "", segment: str = "", facts: Mapping[str, str] | None = None
    ) -> inference_pb2.ExplainRouteResponse:
        """Which version a request would get, and why; nothing is generated."""
        request = inference_pb2.ExplainRouteRequest(model=model, user=user, segment=segment, facts=facts or {})
        with rpc("gateway"):
            stub = inference_pb2_grpc.InferenceServiceStub(self.channel("grpc"))
            return stub.ExplainRoute(request, timeout=DEADLINE_SECONDS, metadata=self.credentials())

    def fleet(self) -> operations_pb2.DescribeFleetResponse:
        """Engines, what they hold, and what the routes want of them."""
        with rpc("gateway"):
            stub = operations_pb2_grpc.OperationsServiceStub(self.channel("grpc"))
            request = operations_pb2.DescribeFleetRequest()
            return stub.DescribeFleet(request, timeout=DEADLINE_SECONDS, metadata=self.credentials())

    def usage(self, since: str = "", until: str = "") -> list[operations_pb2.UsageLine]:
        """Sums by day, tenant, task, version, purpose and key; dates such as 2026-01-31, both included."""
        request = operations_pb2.ReportUsageRequest(since=since, until=until)
        with rpc("gateway"):
            stub = operations_pb2_grpc.OperationsServiceStub(self.channel("grpc"))
            return list(stub.ReportUsage(request, timeout=DEADLINE_SECONDS, metadata=self.credentials()).lines)

    def feedback(self, task: str, events: Iterable[dict[str, Any]]) -> list[int]:
        """Publish feedback events; returns their positions in the stream once the broker has them."""
        request = feedback_pb2.PublishFeedbackRequest(task=task, events_json=[json.dumps(event) for event in events])
        with rpc("gateway"):
            stub = feedback_pb2_grpc.FeedbackServiceStub(self.channel("grpc"))
            return list(stub.PublishFeedback(request, timeout=DEADLINE_SECONDS, metadata=self.credentials()).sequences)
