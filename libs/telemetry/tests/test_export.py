"""Spans that leave the process."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

SCRIPT = """
import sys
from libs import telemetry
telemetry.setup("evaluator", otlp_endpoint=sys.argv[1])
with telemetry.span("judge one answer", parent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"):
    telemetry.get_logger("x").info("judged")
telemetry.shutdown()
print("ended")
"""


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    received: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    server.server_close()


def run(endpoint: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", SCRIPT, endpoint], capture_output=True, text=True, timeout=60)


def test_spans_reach_the_collector_with_the_service_and_the_callers_trace(
    collector: tuple[str, list[tuple[str, bytes]]],
) -> None:
    endpoint, received = collector
    assert run(endpoint + "/").returncode == 0
    (path, body) = received[0]
    assert path == "/v1/traces"
    assert b"evaluator" in body
    assert b"judge one answer" in body
    assert bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736") in body


def test_a_collector_that_is_away_neither_breaks_nor_holds_the_process() -> None:
    ended = run("http://127.0.0.1:9")
    assert (ended.returncode, ended.stdout) == (0, "ended\n")
    assert '"event": "judged"' in ended.stderr
