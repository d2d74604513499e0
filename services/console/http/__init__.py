"""The console's pages."""

from services.console.http.pages import build
from services.console.http.server import WebServer

__all__ = ["WebServer", "build"]
