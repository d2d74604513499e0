"""How a quiet stream's messages gather before they are written."""

import asyncio
import time

_FULL_ENOUGH = 200


class Pace:
    """Lets a quiet stream's messages gather, so that a trickle does not become a segment per message."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = 0.0

    async def wait(self, size: int) -> None:
        """Wait until `seconds` have passed since the batch before, unless this one is large already."""
        left = self._last + self._seconds - time.monotonic()
        if size < _FULL_ENOUGH and left > 0:
            await asyncio.sleep(left)
        self._last = time.monotonic()
