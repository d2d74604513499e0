"""What the evaluator asks others for: answers of the gateway and of outside models, and how far behind it is."""

from services.evaluator.clients.gateway import Backlog, Gateway

__all__ = ["Backlog", "Gateway"]
