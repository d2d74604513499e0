"""The first code of a spawned child that runs a function, and the child's end of the socket to its parent."""

import importlib
import json
import os
import select
import socket
import sys
from collections.abc import Mapping
from typing import Any

from libs.contracts.errors import FailedPrecondition
from libs.runtime.bound import CHANNEL_VARIABLE


class ParentChannel:
    """JSON objects to and from the parent; blocking, for a child that has no event loop. Use one per process."""

    def __init__(self) -> None:
        number = os.environ.pop(CHANNEL_VARIABLE, "")
        if not number.isdigit():
            raise FailedPrecondition("this process was not started by spawn_child", field=CHANNEL_VARIABLE)
        self._socket = socket.socket(fileno=int(number))
        # A grandchild that inherited it would keep the channel open after this process is dead.
        self._socket.set_inheritable(False)
        self._socket.setblocking(True)
        self._buffer = b""

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a JSON object; one that the parent does not wait for any more is dropped."""
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except ConnectionError:
            return

    def receive(self, timeout: float | None = 0.0) -> dict[str, Any] | None:
        """The next object from the parent, or None if none comes within `timeout` seconds (None: no limit)."""
        while b"\n" not in self._buffer:
            readable, _, _ = select.select([self._socket], [], [], timeout)
            if not readable:
                return None
            received = self._socket.recv(65536)
            if not received:
                return None
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message


def main(arguments: list[str]) -> None:
    """`python -m libs.runtime.child_main MODULE:FUNCTION JSON_ARGUMENTS`; an exception in it ends with status 1."""
    module, _, name = arguments[0].partition(":")
    target: Any = importlib.import_module(module)
    for part in name.split("."):
        target = getattr(target, part)
    target(*json.loads(arguments[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
