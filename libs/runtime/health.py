"""Probes and metrics over HTTP, answered from a thread of their own so that a stalled loop is reported, not hidden."""

import asyncio
import json
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

from libs.contracts.errors import FailedPrecondition
from libs.telemetry import get_logger

log = get_logger(__name__)

Check = Callable[[], str | None]
"""A readiness check: None when fine, otherwise the reason why not. It runs in the event loop and must not block."""

STALL_SECONDS = 10.0
TICK_SECONDS = 0.5


class Probes:
    """The state behind the probes: when the loop last ticked, and what has to be fine before traffic comes."""

    def __init__(self, *, stall_seconds: float = STALL_SECONDS) -> None:
        self._stall_seconds = stall_seconds
        self._last_tick = time.monotonic()
        self._checks: dict[str, Check] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread: int | None = None
        self._stall_reported = False

    def add(self, name: str, check: Check) -> None:
        """Register a readiness check; a second one under the name replaces the first."""
        self._checks[name] = check

    def remove(self, name: str) -> None:
        """Forget a check."""
        self._checks.pop(name, None)

    async def tick(self) -> None:
        """Prove again and again that the loop runs; never returns."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        while True:
            self._last_tick = time.monotonic()
            self._stall_reported = False
            await asyncio.sleep(TICK_SECONDS)

    def stalled(self) -> str | None:
        """Why the process does not count as alive, or None. The first report of a stall logs where the loop stands."""
        silent = time.monotonic() - self._last_tick
        if silent <= self._stall_seconds:
            return None
        if not self._stall_reported:
            self._stall_reported = True
            frame = sys._current_frames().get(self._loop_thread or 0)  # noqa: SLF001
            stack = "".join(traceback.format_stack(frame)) if frame else ""
            log.error("event loop stalled", seconds=round(silent, 1), stack=stack)
        return f"the event loop has not run for {silent:.1f} s"

    def failing(self) -> dict[str, str]:
        """Failing readiness checks with their reasons; call it in the loop."""
        reasons: dict[str, str] = {}
        for name, check in list(self._checks.items()):
            try:
                reason = check()
            except Exception as failure:  # noqa: BLE001 - a broken check is itself the reason
                reason = f"{type(failure).__name__}: {failure}"
            if reason is not None:
                reasons[name] = reason
        return reasons

    def failing_from_outside(self, timeout: float = 2.0) -> dict[str, str]:
        """The same from another thread: the loop is asked, and is itself the failing check when it does not answer."""
        loop, answer = self._loop, Future[dict[str, str]]()
        if loop is None or loop.is_closed():
            return {"loop": "not running"}
        try:
            loop.call_soon_threadsafe(lambda: answer.set_result(self.failing()))
            return answer.result(timeout)
        except RuntimeError:
            return {"loop": "not running"}
        except FutureTimeoutError:
            return {"loop": f"did not answer within {timeout:g} s"}


class HealthServer:
    """`/livez`, `/readyz` (JSON with the failing checks) and `/metrics` (Prometheus text) on one port."""

    def __init__(
        self,
        host: str,
        port: int,
        probes: Probes,
        *,
        registry: CollectorRegistry = REGISTRY,
        variable: str = "health_port",
    ) -> None:
        self._host = host
        self._port = port
        self._probes = probes
        self._registry = registry
        self._variable = variable
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port listened on (the chosen one when 0 was asked for)."""
        return self._server.server_address[1] if self._server else self._port

    def start(self) -> None:
        """Listen. Raises FailedPrecondition, naming port and variable, when the port is taken."""
        handler = type("Handler", (_Handler,), {"probes": self._probes, "registry": self._registry})
        try:
            self._server = _Server((self._host, self._port), handler)
        except OSError as failure:
            raise port_refused(self._host, self._port, self._variable, failure) from failure
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True)
        self._thread.name = "health"
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; calling it again does nothing."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


def port_refused(host: str, port: int, variable: str, failure: OSError | None = None) -> FailedPrecondition:
    """The error for an address that cannot be listened on, naming it and the variable that chose it."""
    why = (failure.strerror or str(failure)) if failure else "Address already in use"
    return FailedPrecondition(
        f"cannot listen on {host}:{port}: {why.lower()}", reason="PORT_TAKEN", field=variable, host=host, port=port
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 32

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        # The standard one asks the resolver for the host's full name, which can take seconds and is used nowhere.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - named by the base class
        """A probe that hangs up is not worth a traceback."""
        log.debug("probe connection failed", error=repr(sys.exc_info()[1]))


class _Handler(BaseHTTPRequestHandler):
    probes: Probes
    registry: CollectorRegistry
    timeout = 5

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/livez":
                reason = self.probes.stalled()
                self._json({"alive": reason is None, "reason": reason})
            case "/readyz":
                failing = self.probes.failing_from_outside()
                self._json({"ready": not failing, "failing": failing})
            case "/metrics":
                self._answer(200, generate_latest(self.registry), CONTENT_TYPE_LATEST)
            case _:
                self._answer(
                    404, b'{"error":"no such page; there are /livez, /readyz and /metrics"}', "application/json"
                )

    do_HEAD = do_GET  # noqa: N815 - named by the base class

    def _json(self, body: dict[str, Any]) -> None:
        fine = body.get("alive", True) and body.get("ready", True)
        self._answer(200 if fine else 503, json.dumps(body).encode(), "application/json")

    def _answer(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by the base class
        """Probes come every few seconds; they are not logged."""
