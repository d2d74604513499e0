"""What the children in these tests run."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from libs.runtime.child_main import ParentChannel


def live_forever() -> None:
    """A child that would live for ever."""
    time.sleep(600)


def echo(greeting: str, times: int) -> None:
    """A child that says hello and then returns what it is sent, doubled, until it is told to stop."""
    parent = ParentChannel()
    for number in range(times):
        parent.send({"greeting": greeting, "number": number})
    while (message := parent.receive(timeout=30)) is not None and not message.get("stop"):
        parent.send({"twice": message["value"] * 2})


def crash() -> None:
    """A child that sends one message and dies of an exception."""
    ParentChannel().send({"began": True})
    raise ValueError("child broke")


def stubborn(pid_file: str) -> None:
    """A child that ignores SIGTERM and has a child of its own in the same group."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    own = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(pid_file).write_text(str(own.pid))
    ParentChannel().send({"ready": True})
    time.sleep(600)
