"""What is asked of an import, and how far it has come."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What the caller says of a file; `columns` overrides the task's map, field by field.

    `ticket` is a word of the caller's choice by which the progress can be asked for.
    """

    tenant: str
    task: str
    name: str
    format: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    shape: str = ""
    ticket: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import has come: its state, its counts, and the share of the file that was read (0 to 1)."""

    state: str
    rows: int = 0
    accepted: int = 0
    quarantined: int = 0
    fraction: float = 0.0
