"""The Python client: a connection to a running Pawl, and calls by name."""

from pawl.client.connection import Connection
from pawl.client.pawl import Pawl

__all__ = ["Connection", "Pawl"]
