"""Wires the console together: channels to the services and one HTTP port."""

from libs.runtime.process import Lifecycle
from services.console.clients import Services
from services.console.http import WebServer, build
from services.console.settings import ConsoleSettings


async def serve(lifecycle: Lifecycle) -> None:
    """Run until told to stop; the services may be away, the pages say so."""
    settings = lifecycle.settings
    assert isinstance(settings, ConsoleSettings)
    services = Services(settings.addresses(), settings.deadline_seconds)
    lifecycle.on_drain(services.close, "channels")
    server = WebServer(build(services), settings.http_host, settings.http_port, variable=settings.variable("http_port"))
    server.start()
    lifecycle.on_drain(server.stop, "http")
    await lifecycle.wait_stopped()
