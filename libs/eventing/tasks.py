"""Ending background tasks for sure: nats-py swallows a cancellation that meets it while flushing."""

import asyncio
from typing import Any

_AGAIN_SECONDS = 0.25


async def end(task: "asyncio.Task[Any] | None") -> None:
    """Cancel `task` until it has ended; its outcome is the business of whoever started it."""
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_AGAIN_SECONDS)
