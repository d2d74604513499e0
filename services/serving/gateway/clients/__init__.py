"""What the gateway talks to: engines, and the stream that feedback goes to."""

from services.serving.gateway.clients.engines import Engines
from services.serving.gateway.clients.feedback import StreamDoor
from services.serving.gateway.clients.outside import OutsideServer, read_servers

__all__ = ["Engines", "OutsideServer", "StreamDoor", "read_servers"]
