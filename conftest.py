"""Fixtures of the whole repository, and how its tests share two cores."""

import pytest

pytest_plugins = ["libs.testing.fixtures"]

_SHARED_STACKS = ("tests/e2e/", "services/serving/", "")
"""Folders whose tests share one running stack, the slowest first; every other file stands alone."""


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests that share a stack on one worker, and those of a file; begin with what takes longest."""
    shared = {item: next(folder for folder in _SHARED_STACKS if item.nodeid.startswith(folder)) for item in items}
    for item in items:
        item.add_marker(pytest.mark.xdist_group(shared[item] or item.nodeid.split("::", 1)[0]))
    items.sort(key=lambda item: _SHARED_STACKS.index(shared[item]))
