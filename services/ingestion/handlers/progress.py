"""How far a consumer is, in time: whoever waits for a message waits for as long as it may lie unread."""

import time
from collections import deque

from nats.errors import Error as NatsError

from libs.eventing.connection import NatsLink

_LEAST_SECONDS = 0.5
_MOST_MARKS = 1000


class Progress:
    """Until when a consumer, whichever replica it runs in, has handled all that its stream holds."""

    def __init__(self, link: NatsLink, stream: str, durable: str) -> None:
        self._link = link
        self.stream, self._durable = stream, durable
        self._marks: deque[tuple[float, int]] = deque()
        self._until = 0.0
        self._asked = 0.0

    async def until(self) -> float:
        """Everything published by then (epoch seconds) is handled; while the broker is away, what it was before."""
        now = time.time()
        if now - self._asked >= _LEAST_SECONDS or now < self._asked:
            try:
                info = await self._link.js.consumer_info(self.stream, self._durable)
            except (NatsError, OSError):
                return self._until
            self._asked = now
            floor = info.ack_floor.stream_seq if info.ack_floor else 0
            pending = int(info.num_pending or 0)
            last = (info.delivered.stream_seq if info.delivered else 0) + pending
            self.note(now, last, floor, idle=not pending and not info.num_ack_pending)
        return self._until

    def note(self, now: float, last: int, floor: int, *, idle: bool) -> None:
        """At `now` the stream's last message was `last`, and all up to `floor` was handled; idle: all that there is."""
        if idle:
            self._until = now
            self._marks.clear()
            return
        if self._marks and self._marks[-1][1] >= last:
            self._marks.pop()
        self._marks.append((now, last))
        while self._marks and self._marks[0][1] <= floor:
            self._until = self._marks.popleft()[0]
        if len(self._marks) > _MOST_MARKS:
            # Every other one: who waits does so for a little longer.
            self._marks = deque(list(self._marks)[1::2])
