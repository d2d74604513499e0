"""The stack that the demo runs on: brought up, looked at and struck by the same commands a person uses."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from libs.contracts.errors import FailedPrecondition, Unavailable
from pawl.client import Connection, Pawl


class Stack:
    """A local stack in `directory`, driven through the `pawl` command."""

    def __init__(self, directory: Path, console: Console) -> None:
        self.directory = directory
        self.console = console

    def prepare(self) -> None:
        """Begin anew where an earlier demo ended; a stack that is somebody's work is never touched."""
        marker = self.directory / "demo"
        if self.directory.exists() and not marker.exists():
            raise FailedPrecondition(
                f"{self.directory} holds a stack that is not the demo's; name another directory with --dir"
            )
        if self.directory.exists():
            self.down()
            shutil.rmtree(self.directory)
        marker.mkdir(parents=True)

    def pawl(self, *arguments: str, check: bool = True) -> str:
        """Run one `pawl` command; its output."""
        command = [sys.executable, "-m", "pawl.cli", *arguments, "--dir", str(self.directory)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            said = (done.stderr or done.stdout).strip().removeprefix("error: ")
            raise Unavailable(f"pawl {' '.join(arguments)}: {said or f'status {done.returncode}'}")
        return done.stdout

    def up(self) -> None:
        """Start everything; returns when all is healthy."""
        self.pawl("up", "--detach")

    def down(self) -> None:
        """Stop everything."""
        self.pawl("down", check=False)

    def status(self) -> dict[str, Any]:
        """`pawl status --json`."""
        document: dict[str, Any] = json.loads(self.pawl("status", "--json", check=False))
        return document

    def process(self, name: str) -> dict[str, Any]:
        """What the status says of one process."""
        return next(record for record in self.status()["processes"] if record["name"] == name)

    def kill(self, name: str) -> int:
        """`kill -9` of one process; the pid it had."""
        pid = int(self.process(name)["pid"])
        os.kill(pid, signal.SIGKILL)
        return pid

    def connection(self) -> Connection:
        """Where everything is."""
        return Connection.find(self.directory)

    def client(self) -> Pawl:
        """A client of the stack."""
        return Pawl(self.connection())
