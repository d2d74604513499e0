"""The state of curation: which segments exist, which dataset versions were built, which suites are frozen."""

from services.curation.store.datasets import Dataset, Suite
from services.curation.store.tables import METADATA

__all__ = ["METADATA", "Dataset", "Suite"]
