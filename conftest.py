"""Fixtures of the whole repository, and how its tests share two cores."""

import pytest

pytest_plugins = ["libs.testing.fixtures"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of one file on one worker, and all those that share the whole stack on the same one."""
    for item in items:
        whole_stack = "/tests/e2e/" in item.nodeid or item.nodeid.startswith("tests/e2e/")
        item.add_marker(pytest.mark.xdist_group("stack" if whole_stack else item.nodeid.split("::", 1)[0]))
