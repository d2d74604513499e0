"""Splits: a permanent function of the task's salt and the group."""

import hashlib

from libs.contracts.task import SplitSpec

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)


def salt_of(tenant: str, task: str) -> str:
    """The salt of a task; it never changes, so neither does a split."""
    return f"{tenant}/{task}"


def split_of(salt: str, group: str, fractions: SplitSpec) -> str:
    """train, validation or test, with the given fractions of groups."""
    hashed = hashlib.sha256(f"{salt}\x00{group}".encode("utf-8", "surrogatepass")).digest()
    at = int.from_bytes(hashed[:8], "big") / 2**64
    if at < fractions.test:
        return TEST
    return VALIDATION if at < fractions.test + fractions.validation else TRAIN
