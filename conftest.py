"""Fixtures of the whole repository."""

pytest_plugins = ["libs.testing.fixtures"]
