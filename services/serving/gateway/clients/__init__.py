"""What the gateway talks to: engines, and the stream that feedback goes to."""

from services.serving.gateway.clients.engines import Engines
from services.serving.gateway.clients.feedback import StreamDoor

__all__ = ["Engines", "StreamDoor"]
