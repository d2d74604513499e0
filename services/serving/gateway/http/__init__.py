"""The gateway's HTTP door: OpenAI's API, feedback, health."""

from services.serving.gateway.http.app import HttpDoor
from services.serving.gateway.http.server import HttpServer

__all__ = ["HttpDoor", "HttpServer"]
