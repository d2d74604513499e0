"""Publishes committed outbox rows in order, at least once, deduplicated by the broker."""

import asyncio
import json
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from nats.errors import Error as NatsError
from nats.js.errors import TooManyStalledMsgsError
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from libs.contracts.errors import InvalidInput, PawlError, Permanent, Unavailable
from libs.eventing.connection import NatsLink
from libs.eventing.kv import Entry, kv_advance
from libs.eventing.publish import translate
from libs.eventing.tasks import end, launch
from libs.eventing.topology import stream_of
from libs.outbox.database import Database
from libs.outbox.unit import KV
from libs.telemetry import gauge, get_logger

log = get_logger(__name__)

BATCH = 500
POLL_SECONDS = 2.0
CONFIRM_SECONDS = 5.0
_LOOK_SECONDS = 0.5
_LONGEST_PAUSE = 15.0
_KEEP_SENT_SECONDS = 3600.0
# The inbox must remember as long as the streams do: a consumer made anew replays them from the start.
_KEEP_HANDLED_SECONDS = 100 * 86_400.0
_PURGE_EVERY = 300.0
_LAG_EVERY = 2.0


class Relay:
    """Moves outbox rows to NATS: woken by each commit, polling besides.

    KV entries go out first: they are states with a generation, and a route must not wait behind facts. Then events in
    order of id, up to `batch` in flight. After a failure in the middle of a batch the rest is sent
    again: order then holds among what was not confirmed, and `Nats-Msg-Id` keeps the broker from storing a row twice.
    A row the broker can never take is marked `refused`, logged and passed over. Of several replicas on Postgres one
    relays at a time.
    """

    def __init__(
        self, database: Database, link: NatsLink, *, batch: int = BATCH, poll_seconds: float = POLL_SECONDS
    ) -> None:
        self._database = database
        self._link = link
        self._batch = batch
        self._poll_seconds = poll_seconds
        self._outbox = database.outbox
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._trouble: str | None = None
        self._failures = 0
        self._known: dict[str, Entry] = {}
        self._purged_at = 0.0
        self._counted_at = 0.0
        self.lag = 0
        """Rows waiting, as of the last look (a few seconds old)."""

    async def start(self) -> None:
        """Relay in the background until `stop`."""
        if self._task is None:
            self._link.on_connected(self._database.outbox_written.set)
            self._task = launch(self.run(), f"relay-{self._database.service}", self._link.fail)

    async def stop(self, grace: float = 3.0) -> None:
        """Send what was committed until now, as far as `grace` seconds allow, then end."""
        self._stopping.set()
        self._database.outbox_written.set()
        if self._task is None:
            return
        await asyncio.wait({self._task}, timeout=grace)
        await end(self._task)

    def check(self) -> str | None:
        """Readiness: None, or why committed rows do not leave."""
        if self._task is not None and self._task.done() and not self._stopping.is_set():
            return "outbox: the relay ended"
        return self._trouble

    async def run(self) -> None:
        """Relay until `stop`; survives broker and database being away."""
        while True:
            self._database.outbox_written.clear()
            stopping = self._stopping.is_set()
            pause = self._poll_seconds
            try:
                sent = await self.relay_once()
                if sent == self._batch:
                    continue
                await self._housekeeping()
            except PawlError as error:
                if isinstance(error, Permanent):
                    log.error("outbox blocked", reason=str(error))
                elif self._trouble is None:
                    log.warning("outbox waits", reason=str(error))
                self._trouble = f"outbox: {error}"
                self._failures += 1
                pause = min(0.2 * 2.0 ** min(self._failures, 10), _LONGEST_PAUSE)
            else:
                self._trouble, self._failures = None, 0
            if stopping:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._database.outbox_written.wait(), pause)

    async def relay_once(self) -> int:
        """Send one batch; returns the number of rows looked at. Raises what kept rows from leaving."""
        if not self._link.connected:
            raise Unavailable("NATS is away", reason="NATS_UNAVAILABLE")
        database = self._database
        if database.is_sqlite:
            async with database.reading(short=True) as session:
                rows = await self._waiting(session)
            if not rows:
                return 0
            sent, refused, failure = await self._send(rows)
            if sent or refused:
                async with database.transaction() as session:
                    await self._mark(session, sent, refused)
        else:
            async with database.aside() as session:
                # One relay at a time: two would race each other out of order. Writers go on while it waits for NATS.
                lock = zlib.crc32(f"pawl-outbox-{database.service}".encode())
                if not await session.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": lock}):
                    return 0
                rows = await self._waiting(session)
                sent, refused, failure = await self._send(rows) if rows else ([], {}, None)
                if sent or refused:
                    await self._mark(session, sent, refused)
        if failure is not None:
            raise failure
        return len(rows)

    async def _waiting(self, session: AsyncSession) -> Sequence[Any]:
        table = self._outbox
        columns = (table.c.id, table.c.kind, table.c.subject, table.c.headers, table.c.payload, table.c.generation)
        waiting = select(*columns).where(table.c.sent_at.is_(None))
        query = waiting.order_by(table.c.kind != KV, table.c.id).limit(self._batch)
        return (await session.execute(query)).all()

    async def _send(self, rows: Sequence[Any]) -> tuple[list[int], dict[int, str], PawlError | None]:
        sent: list[int] = []
        refused: dict[int, str] = {}
        events = [row for row in rows if row.kind != KV]
        for row in rows[: len(rows) - len(events)]:
            failure = await self._send_kv(row, sent)
            if failure is not None:
                return sent, refused, failure
        return sent, refused, await self._send_events(events, sent, refused)

    async def _send_kv(self, row: Any, sent: list[int]) -> PawlError | None:
        _, bucket, key = row.subject.split(".", 2)
        try:
            await kv_advance(self._link, bucket, key, row.payload, row.generation, known=self._known)
        except PawlError as error:
            return error
        sent.append(row.id)
        return None

    async def _send_events(self, rows: Sequence[Any], sent: list[int], refused: dict[int, str]) -> PawlError | None:
        js = self._link.js
        waiting: list[tuple[Any, asyncio.Future[Any]]] = []
        failure: PawlError | None = None
        for row in rows:
            try:
                stream = stream_of(row.subject)
                future = await js.publish_async(
                    row.subject, row.payload, stream=stream, headers=json.loads(row.headers)
                )
            except (NatsError, OSError, TooManyStalledMsgsError) as error:
                failure = translate(error, row.subject, js)
            except PawlError as error:
                failure = error
            else:
                waiting.append((row, future))
                continue
            if isinstance(failure, InvalidInput):
                refused[row.id] = str(failure)
                log.error("outbox row can never be sent", row=row.id, subject=row.subject, reason=str(failure))
                failure = None
                continue
            break
        return await self._confirm(waiting, sent) or failure

    async def _confirm(self, waiting: list[tuple[Any, "asyncio.Future[Any]"]], sent: list[int]) -> PawlError | None:
        if not waiting:
            return None
        pending = {future for _, future in waiting}
        deadline = time.monotonic() + CONFIRM_SECONDS
        while pending and time.monotonic() < deadline:
            _, pending = await asyncio.wait(pending, timeout=_LOOK_SECONDS)
            # The broker answers a forbidden publish with silence; its reason comes another way, and sooner.
            if pending and any(self._link.violation(row.subject) for row, future in waiting if future in pending):
                break
        failure: PawlError | None = None
        for row, future in waiting:
            if not future.done():
                future.cancel()
                denied = self._link.violation(row.subject)
                failure = failure or denied or Unavailable(
                    f"NATS did not confirm {row.subject} in time", reason="NATS_TIMEOUT"
                )  # fmt: skip
                continue
            error = future.exception()
            if error is None:
                sent.append(row.id)
            elif isinstance(error, Exception):
                failure = failure or translate(error, row.subject, self._link.js)
        return failure

    async def _mark(self, session: AsyncSession, sent: list[int], refused: dict[int, str]) -> None:
        table, now = self._outbox, time.time()
        if sent:
            await session.execute(update(table).where(table.c.id.in_(sent)).values(sent_at=now))
        for row_id, reason in refused.items():
            await session.execute(update(table).where(table.c.id == row_id).values(sent_at=now, refused=reason))

    async def _housekeeping(self) -> None:
        now = time.time()
        if now - self._counted_at > _LAG_EVERY:
            self._counted_at = now
            table = self._outbox
            async with self._database.reading() as session:
                query = select(func.count()).select_from(table).where(table.c.sent_at.is_(None))
                self.lag = int(await session.scalar(query) or 0)
            gauge("outbox_lag", "committed rows not published yet").set(self.lag)
        if now - self._purged_at > _PURGE_EVERY:
            self._purged_at = now
            self._known.clear()  # of keys that are done with, too
            await self.purge(now)

    async def purge(self, now: float) -> None:
        """Forget rows sent more than an hour and events handled more than 100 days before `now` (epoch seconds)."""
        outbox, inbox = self._outbox, self._database.inbox
        async with self._database.transaction() as session:
            await session.execute(
                delete(outbox).where(outbox.c.sent_at < now - _KEEP_SENT_SECONDS, outbox.c.refused.is_(None))
            )
            await session.execute(delete(inbox).where(inbox.c.handled_at < now - _KEEP_HANDLED_SECONDS))
