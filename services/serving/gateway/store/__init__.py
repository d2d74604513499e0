"""What the gateway keeps: tables with a copy on disk, and the inference log on its way to the stream."""

from services.serving.gateway.store.journal import Journal
from services.serving.gateway.store.spill import Spill
from services.serving.gateway.store.tables import LocalTables
from services.serving.gateway.store.usage import UsageBook

__all__ = ["Journal", "LocalTables", "Spill", "UsageBook"]
