"""`python -m services.trainer.compute.rank`: a process of a run of several, or of one that is trained elsewhere.

All read the same job. The first reports to the door that the job names, where it names one; the others say nothing.
"""

import json
import os
import socket
import sys
from collections.abc import Mapping
from typing import Any

from libs.runtime.bound import CHANNEL_VARIABLE
from libs.runtime.child_main import ParentChannel
from services.trainer.compute.failures import Channel
from services.trainer.compute.job import run_job
from services.trainer.compute.ranks import told_job


class _Silent:
    """A channel to nobody; only the reason of a failure is kept, in the log."""

    def __init__(self) -> None:
        self.failed = False

    def send(self, message: Mapping[str, Any]) -> None:
        """Keep to oneself."""
        if message.get("kind") == "failed":
            self.failed = True
            sys.stderr.write(f"{message['reason']}: {message['message']}\n")

    def receive(self, timeout: float | None = 0.0) -> dict[str, Any] | None:  # noqa: ARG002 - as the channel has it
        """Hear nothing."""
        return None


class _Door(ParentChannel):
    """The connection to a service on another machine; when that is gone, a checkpoint is written and the run ends.

    Nobody would hear of what came after, and the next attempt goes on from there.
    """

    def receive(self, timeout: float | None = 0.0) -> dict[str, Any] | None:
        """The next word, or to stop once the service has gone."""
        heard = super().receive(timeout)
        if heard is None and self._closed():
            return {"kind": "stop"}
        return heard

    def _closed(self) -> bool:
        try:
            return self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True


def main() -> int:
    """Take part in the job; status 1 when that failed without anybody being told."""
    job, door = told_job()
    silent = _Silent()
    channel: Channel = _called(door) if door and os.environ.get("RANK", "0") == "0" else silent
    run_job(job, channel)
    return int(silent.failed)


def _called(door: Mapping[str, str]) -> Channel:
    """The connection to the service; the token says which run this is."""
    host, _, port = door["address"].rpartition(":")
    opened = socket.create_connection((host, int(port)), timeout=60.0)
    opened.sendall(json.dumps({"token": door["token"]}).encode() + b"\n")
    opened.settimeout(None)
    os.environ[CHANNEL_VARIABLE] = str(opened.detach())
    return _Door()


if __name__ == "__main__":
    sys.exit(main())
