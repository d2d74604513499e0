"""Who may be in vLLM's batch: never more adapters at once than it has slots for.

vLLM's scheduler admits `max_loras` distinct adapters to a batch and does not know that pinned ones keep their slots
although they are not in it; one adapter too many kills the engine. So requests for adapters that are not pinned take
turns at the door: users before evaluation before shadows, and among equals first come, first served. Pinned ones and
the bare base never wait.
"""

import asyncio
import itertools
from bisect import insort
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_Turn = tuple[int, int, int, "asyncio.Future[None]"]
"""Priority, order of arrival, adapter number, and what the request waits for."""


class Slots:
    """Admission by adapter number; 0 is the bare base. Lives on one loop."""

    def __init__(self, total: int) -> None:
        """`total` is vLLM's `max_loras`."""
        self._total = total
        self._pinned: set[int] = set()
        self._running: dict[int, int] = {}
        self._waiting: list[_Turn] = []
        self._arrivals = itertools.count()

    @property
    def waiting(self) -> int:
        """Requests at the door."""
        return len(self._waiting)

    @asynccontextmanager
    async def use(self, number: int, priority: int = 0) -> AsyncIterator[None]:
        """Hold a slot for one request; the lower `priority` goes first."""
        if number == 0:
            yield
            return
        must_wait = bool(self._waiting) and self._waiting[0][0] <= priority
        if number not in self._pinned and (must_wait or not self._fits(number)):
            await self._queue(number, priority)
        else:
            self._enter(number)
        try:
            yield
        finally:
            self._leave(number)

    def pin(self, number: int) -> bool:
        """Reserve a slot for one adapter; True once the requests running leave room for it, else ask again later.

        From here on nobody new is let into the slot that is reserved. The last slot is never given: with all of them
        pinned one adapter more would kill vLLM.
        """
        if len(self._pinned | {number}) >= self._total:
            return False
        self._pinned.add(number)
        self._admit()
        return len(self._unpinned()) <= self._total - len(self._pinned)

    def unpin(self, number: int) -> None:
        """Give the slot back to all."""
        self._pinned.discard(number)
        self._admit()

    async def _queue(self, number: int, priority: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        insort(self._waiting, (priority, next(self._arrivals), number, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave(number)  # it was our turn just now
            else:
                self._waiting = [each for each in self._waiting if each[3] is not turn]
                self._admit()
            raise

    def _fits(self, number: int) -> bool:
        return number in self._pinned or len(self._unpinned() | {number}) <= self._total - len(self._pinned)

    def _unpinned(self) -> set[int]:
        return self._running.keys() - self._pinned

    def _enter(self, number: int) -> None:
        self._running[number] = self._running.get(number, 0) + 1

    def _leave(self, number: int) -> None:
        self._running[number] -= 1
        if not self._running[number]:
            del self._running[number]
        self._admit()

    def _admit(self) -> None:
        # Strictly in order: otherwise a busy adapter would keep a waiting one out for ever.
        while self._waiting and self._fits(self._waiting[0][2]):
            _, _, number, turn = self._waiting.pop(0)
            self._enter(number)
            turn.set_result(None)
