"""The gateway's use case: one answer from start to end."""

from services.serving.gateway.workflows.answering import Answering

__all__ = ["Answering"]
