"""Every way the training process can fail, said in words with the mend."""

import errno
import logging
import os
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from libs.contracts.errors import PawlError, Transient
from libs.contracts.task import Training
from services.trainer.compute.machine import is_out_of_memory, peak_memory_bytes
from services.trainer.compute.ranks import OutOfStep
from services.trainer.domain.protocol import Failed, Word

log = logging.getLogger(__name__)


class Channel(Protocol):
    """The way to the service."""

    def send(self, message: Mapping[str, Any]) -> None:
        """Say something."""

    def receive(self, timeout: float | None = 0.0) -> dict[str, Any] | None:
        """Hear something, or None."""


def guarded(work: Callable[[], Word], channel: Channel, *, recipe: Training | None, directory: str) -> None:
    """Do the work and say its last word; every failure becomes a `Failed`, none an exception."""
    outcome: Word
    try:
        outcome = work()
    except PawlError as error:
        outcome = Failed(reason=error.reason, message=error.message, again=isinstance(error, Transient))
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        message = f"the disk under {directory} is full" if full else f"{error.strerror}: {error.filename}"
        outcome = Failed(reason="DISK_FULL" if full else "IO_ERROR", message=message, again=True)
    except Exception as error:  # noqa: BLE001 - the boundary of this process
        outcome = _described(error, recipe, directory)
    channel.send(outcome.model_dump())


def _described(error: BaseException, recipe: Training | None, directory: str) -> Failed:
    if is_out_of_memory(error):
        return _out_of_memory(recipe, error)
    if "No space left on device" in str(error):
        return Failed(reason="DISK_FULL", message=f"the disk under {directory} is full", again=True)
    log.error("the training process broke", exc_info=error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(last.filename).name}:{last.lineno}"
    return Failed(reason="BROKE", message=f"{type(error).__name__}: {error} at {where}", again=True)


def _out_of_memory(recipe: Training | None, error: BaseException) -> Failed:
    first = str(error).strip().partition("\n")[0] or type(error).__name__
    mend = "give it more memory"
    if recipe is not None:
        mend = f"one row of {recipe.max_length} tokens at a time is still too much: lower recipe.max_length"
        mend += ", or hold the base in 4 bits with method qlora" if recipe.method != "qlora" else ""  # type: ignore[attr-defined]
        mend += "; `pawl plan` shows what would fit"
    held = peak_memory_bytes() / 2**30
    return Failed(
        reason="OUT_OF_MEMORY",
        # Of a run in step with others: the next attempt begins with smaller pieces.
        again=isinstance(error, OutOfStep),
        message=f"out of memory after holding {held:.2f} GiB: {mend} ({first}; pid {os.getpid()})",
    )
