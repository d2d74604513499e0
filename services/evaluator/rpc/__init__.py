"""gRPC of the evaluator: reports, and beside them campaigns and live evidence."""

from services.evaluator.rpc import campaigns, live
from services.evaluator.rpc.reports import SERVICE, EvaluatorServicer, register

__all__ = ["SERVICE", "EvaluatorServicer", "campaigns", "live", "register"]
