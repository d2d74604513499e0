"""A model outside, on a real socket: OpenAI's wire format, answers by rule."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Rule = Callable[[dict[str, Any]], str | int | list[dict[str, Any]]]
"""The content to answer a request with, the calls, or a status to refuse it by."""


class OutsideServer:
    """Serves /v1/chat/completions and /v1/embeddings; `requests` holds what was asked, with its key."""

    def __init__(self, rule: Rule) -> None:
        self.requests: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.requests.append({**asked, "key": self.headers.get("authorization"), "path": self.path})
                told = rule(asked)
                if isinstance(told, int):
                    self._send(told, {"error": {"message": "no"}})
                elif self.path.endswith("/embeddings"):
                    rows = [{"index": n, "embedding": _vector(text)} for n, text in enumerate(asked["input"])]
                    self._send(200, {"data": rows})
                else:
                    said = {"content": told} if isinstance(told, str) else {"content": None, "tool_calls": told}
                    message = {"role": "assistant", **said}
                    usage = {"prompt_tokens": 7, "completion_tokens": 3}
                    self._send(200, {"choices": [{"message": message}], "usage": usage})

            def _send(self, status: int, body: dict[str, Any]) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                """Silence."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _vector(text: str) -> list[float]:
    return [float(text.count(sign)) for sign in "abcdefgh0123456789"] + [0.1]
