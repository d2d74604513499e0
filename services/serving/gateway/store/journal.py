"""The inference log: in memory, sent to the stream, on disk while the broker is away; never in an answer's way."""

import asyncio
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from libs.contracts.envelope import envelop
from libs.contracts.errors import PawlError, Permanent, Transient
from libs.contracts.ids import new_id
from libs.contracts.inference import Inference
from libs.contracts.subjects import INFERENCE
from libs.eventing.connection import NatsLink
from libs.eventing.publish import encode, publish_atomic, publish_raw
from libs.telemetry import counter, gauge, get_logger
from services.serving.gateway.store.spill import Parcel, Spill

log = get_logger(__name__)

_BATCH = 256
_BATCH_BYTES = 8 * 1024 * 1024
_GATHER_SECONDS = 0.05
"""For records to come together: sent as one they cost a tenth of what they cost one by one."""
_RETRY_SECONDS = 0.5


class Journal:
    """A bounded queue in front of the stream, with a spill file beside it.

    A record gets its id when it is taken and keeps it in the spill file, so delivering it again counts it once. The id
    does not hang on the request's alone: clients choose those, reuse them across tasks and retry with them.
    """

    def __init__(self, link: NatsLink, spill: Spill, *, capacity: int) -> None:
        self._link = link
        self._spill = spill
        self._capacity = capacity
        self._queue: deque[Parcel] = deque()
        self._wake = asyncio.Event()
        self._stopping = False
        self._records = counter(
            "gateway_inference_records", "Records of the inference log, by what became of them.", ("fate",)
        )
        self._waiting = gauge("gateway_inference_records_waiting", "Records in memory.")

    def record(self, tenant: str, task: str, inference: Inference, traceparent: str | None) -> None:
        """Take a record; returns at once. One that cannot be encoded or kept is dropped, counted and logged."""
        envelope = envelop(
            inference,
            source="gateway",
            id=new_id(f"{tenant}.{task}.{inference.request_id}.{inference.role}"),
            tenant=tenant,
            task=task,
            traceparent=traceparent,
        )
        try:
            subject, body, headers = encode(envelope)
        except PawlError as failure:
            self._drop(1, str(failure))
            return
        if len(self._queue) >= 2 * self._capacity:
            self._drop(1, "the disk does not keep up")
            return
        self._queue.append(Parcel(subject, dict(headers), body.decode()))
        self._wake.set()

    async def run(self) -> None:
        """Send what comes; never returns."""
        while True:
            if not self._queue:
                self._wake.clear()
                try:
                    async with asyncio.timeout(_RETRY_SECONDS):
                        await self._wake.wait()
                        await asyncio.sleep(_GATHER_SECONDS)
                except TimeoutError:
                    pass
            await self._turn()
            self._waiting.set(len(self._queue))

    async def flush(self) -> None:
        """Send what is there or put it on disk: the last act of a process that stops."""
        self._stopping = True
        while self._queue:
            await self._turn()

    async def _turn(self) -> None:
        if self._link.connected and not self._spill.empty:
            await self._replay()
        batch = self._next_batch()
        if batch:
            # A broker that is too slow is as good as away: memory is bounded, the disk holds more.
            usable = self._link.connected and len(self._queue) < self._capacity
            left = await self._send(batch) if usable else batch
            if left:
                await self._keep(left)

    def _next_batch(self) -> list[Parcel]:
        batch: list[Parcel] = []
        room = _BATCH_BYTES
        while self._queue and len(batch) < _BATCH and (room > 0 or not batch):
            batch.append(self._queue.popleft())
            room -= len(batch[-1].body)
        return batch

    async def _send(self, batch: Sequence[Parcel]) -> list[Parcel]:
        """Publish a batch; returns what has to be tried again."""
        left = await self._publish_all(batch)
        self._records.labels("sent").inc(len(batch) - len(left))
        return left

    async def _publish_all(self, batch: Sequence[Parcel]) -> list[Parcel]:
        try:
            messages = [(each.subject, each.body.encode(), each.headers) for each in batch]
            if len(batch) > 1 and await publish_atomic(self._link.js, INFERENCE, messages):
                return []
        except Transient:
            return list(batch)
        except Permanent as failure:
            log.warning("inference log refused as a batch, sent one by one", why=str(failure))
        # One of them may be there already, or be the one that is refused.
        outcomes = await asyncio.gather(*(self._publish(each) for each in batch))
        return [parcel for parcel, sent in zip(batch, outcomes, strict=True) if not sent]

    async def _publish(self, parcel: Parcel) -> bool:
        try:
            await publish_raw(self._link.js, parcel.subject, parcel.body.encode(), parcel.headers)
        except Transient:
            return False
        except Permanent as failure:
            # A stream that is missing may be applied any moment; only a record that is too large never fits.
            if failure.http_status == 400:
                self._drop(1, str(failure))
                return True
            log.warning("inference log refused, kept on disk", why=str(failure))
            return False
        return True

    async def _keep(self, parcels: Sequence[Parcel]) -> None:
        try:
            kept = await asyncio.to_thread(self._spill.append, parcels)
        except OSError as failure:
            if self._stopping or len(self._queue) + len(parcels) > self._capacity:
                self._drop(len(parcels), str(failure))
                return
            # A full disk may be freed and the broker may come back: memory holds what it can until then.
            self._queue.extendleft(reversed(parcels))
            await asyncio.sleep(_RETRY_SECONDS)
            return
        self._records.labels("spilled").inc(kept)
        if kept < len(parcels):
            self._drop(len(parcels) - kept, "the spill file is full")
        if self._link.connected:
            await asyncio.sleep(_RETRY_SECONDS)  # the broker is there and refuses: do not hammer it

    async def _replay(self) -> None:
        for file in self._spill.files():
            parcels = await asyncio.to_thread(_read, self._spill, file)
            for start in range(0, len(parcels), _BATCH):
                if await self._send(parcels[start : start + _BATCH]):
                    return
            await asyncio.to_thread(self._spill.done, file)
            log.info("spilled inference log delivered", file=file.name, records=len(parcels))

    def _drop(self, number: int, why: str) -> None:
        self._records.labels("dropped").inc(number)
        log.error("inference records dropped", records=number, why=why)


def _read(spill: Spill, file: Path) -> list[Parcel]:
    return list(spill.read(file))
