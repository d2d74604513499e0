"""Background tasks that end for sure when told to, and never end unseen when not."""

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

from libs.telemetry import get_logger

log = get_logger(__name__)

_AGAIN_SECONDS = 0.25


async def end(task: "asyncio.Task[Any] | None") -> None:
    """Cancel `task` until it has ended: nats-py swallows a cancellation that meets it while flushing."""
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_AGAIN_SECONDS)


def launch(work: Coroutine[Any, Any, None], name: str, fail: Callable[[str], None]) -> "asyncio.Task[None]":
    """Run `work` in the background; if it breaks, log the traceback and call `fail` with the reason."""

    def ended(task: "asyncio.Task[None]") -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            log.error("task broke", task=name, traceback="".join(traceback.format_exception(error))[-4000:])
            fail(f"{name} broke: {error!r}")

    task = asyncio.create_task(work, name=name)
    task.add_done_callback(ended)
    return task
