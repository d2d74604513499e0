import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.promotion import Promotion, promote
from tests.e2e.stack import EXAMPLE, RunningStack, described, discard, small_task, until


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """One stack for all, with the example's task on its bare base and an engine that serves it."""
    home: Path = tmp_path_factory.mktemp("stack") / ".pawl"
    running = RunningStack(home)
    try:
        running.pawl("up", "--detach")
        running.pawl("apply", str(small_task(home / "task")))
        until(
            lambda: any(each["name"].startswith("engine-") for each in running.status()["processes"]), 30, "an engine"
        )
        running.wait_healthy()
        yield running
        left = running.family()
        running.pawl("down")
        until(lambda: not described(left), 10, "gone to the last process")
    finally:
        discard(home)


@pytest.fixture(scope="session")
def promotion(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Promotion:
    """A version brought to stable by a whole turn, once for all."""
    return asyncio.run(promote(stack, tmp_path_factory.mktemp("loop")))


@pytest.fixture(scope="session")
def base() -> Path:
    return EXAMPLE / "base"
