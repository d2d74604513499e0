"""The trainer's database: an attempt commits, and speaks, only while its epoch is the newest."""

from services.trainer.store.runs import RunStore
from services.trainer.store.tables import METADATA

__all__ = ["METADATA", "RunStore"]
