"""What a plan or a mask is asked for."""

from dataclasses import dataclass

from libs.contracts.task import TaskSpec


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A task's specification over a base and a dataset version; rows are imagined where there is no dataset."""

    tenant: str
    spec: TaskSpec
    base_digest: str
    dataset_digest: str = ""
    rows: int = 0
    mean_tokens: int = 0
    longest_tokens: int = 0
    shown: int = 0
