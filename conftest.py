"""Fixtures of the whole repository, and how its tests share two cores."""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = ["libs.testing.fixtures"]

_SHARED_STACKS = ("tests/e2e/", "services/serving/", "")
"""Folders whose tests share one running stack, the slowest first; every other file stands alone."""


class Schedule(LoadScopeScheduling):  # type: ignore[misc]
    """The tests that share a stack on one worker, and those of a file."""

    def _split_scope(self, nodeid: str) -> str:
        return _shared(nodeid) or nodeid.split("::", 1)[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Schedule:
    """In place of `--dist loadgroup`: pytest 9.2 keeps node ids where xdist 3.8 does not write its groups."""
    return Schedule(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    items.sort(key=lambda item: _SHARED_STACKS.index(_shared(item.nodeid)))


def _shared(nodeid: str) -> str:
    return next(folder for folder in _SHARED_STACKS if nodeid.startswith(folder))
