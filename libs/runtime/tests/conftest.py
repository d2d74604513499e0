"""Starting the sample process and talking to it."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from libs.testing.servers import free_port

Start = Callable[..., "Sample"]


class Sample:
    """The running sample process; its output is read from files so that it never blocks on a full pipe."""

    def __init__(self, mode: str, home: Path, environment: dict[str, str]) -> None:
        self.health_port = free_port()
        self._out, self._err = home / "out", home / "err"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PAWL_")}
        settings = {
            "PAWL_SAMPLE_HEALTH_PORT": str(self.health_port),
            "PAWL_STATE_DIR": str(home / "state"),
            **environment,
        }
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "libs.runtime.tests.sample", *mode.split()],
                env={**inherited, **{name: value for name, value in settings.items() if value}},
                stdout=out,
                stderr=err,
            )

    @property
    def out(self) -> list[str]:
        return self._out.read_text().splitlines()

    @property
    def err(self) -> str:
        return self._err.read_text()

    @property
    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]

    def wait(self, timeout: float = 30) -> int:
        return self.process.wait(timeout)

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()
        except OSError as away:
            return 0, str(away)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Sample] = []

    def begin(mode: str, **environment: str) -> Sample:
        sample = Sample(mode, tmp_path, environment)
        started.append(sample)
        return sample

    yield begin
    for sample in started:
        if sample.process.poll() is None:
            sample.process.kill()
        sample.process.wait()
