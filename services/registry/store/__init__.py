"""The registry's database: tasks, turns, versions and the audit log, in one unit of work with inbox and outbox."""

from services.registry.store.decisions import Store
from services.registry.store.tables import METADATA

__all__ = ["METADATA", "Store"]
