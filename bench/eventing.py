"""Rates of the event paths on this machine: outbox relay, batch consumer, publishing, lifecycle handlers.

`python bench/eventing.py [--rows 20000]` starts a nats-server of its own in a temporary directory and prints a table.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import uvloop
from rich.console import Console
from rich.table import Table
from sqlalchemy import MetaData

sys.path.insert(0, str(Path(__file__).parents[1]))

from libs.contracts.envelope import envelop
from libs.contracts.events import SegmentWritten
from libs.eventing.apply import apply
from libs.eventing.batches import BatchConsumer, RawMessage
from libs.eventing.connection import NatsLink
from libs.eventing.publish import publish
from libs.eventing.subscriptions import Consumers, Subscription
from libs.outbox.database import Database
from libs.outbox.relay import Relay
from libs.testing.servers import NatsServer

WINDOW = 1000


def fact(number: int) -> SegmentWritten:
    return SegmentWritten(tenant="default", task="bench", number=number, digest="sha256:" + "0" * 64, rows=1, kinds={})


class Rate(NamedTuple):
    """Rows a second by the clock, and this process's CPU in microseconds a row: what a busy machine leaves stable."""

    rows: int
    per_second: float
    cpu: float


async def timed(rows: int, work: Callable[[], Awaitable[None]]) -> Rate:
    started, spent = time.perf_counter(), time.process_time()
    await work()
    return Rate(rows, rows / (time.perf_counter() - started), (time.process_time() - spent) / rows * 1e6)


async def outbox(link: NatsLink, home: Path, rows: int) -> tuple[Rate, Rate]:
    metadata = MetaData()
    database = Database(f"sqlite:///{home / 'bench.db'}", metadata=metadata, service="ingestion")
    await database.open()
    async with database.transaction() as session:
        await (await session.connection()).run_sync(metadata.create_all)

    async def emit() -> None:
        for start in range(0, rows, WINDOW):
            async with database.unit() as unit:
                for number in range(start, start + WINDOW):
                    unit.emit(fact(number), output="bench", key=str(number))

    async def relay() -> None:
        sender, sent = Relay(database, link), 0
        while sent < rows:
            sent += await sender.relay_once()

    rates = await timed(rows, emit), await timed(rows, relay)
    await database.close()
    return rates


async def batches(link: NatsLink, rows: int) -> Rate:
    body = b"x" * 512
    for start in range(0, rows, WINDOW):
        futures = [
            await link.js.publish_async("feedback.default.bench", body, stream="FEEDBACK")
            for _ in range(start, min(start + WINDOW, rows))
        ]
        await asyncio.gather(*futures)
    seen, done = 0, asyncio.Event()

    async def handle(batch: list[RawMessage]) -> None:
        nonlocal seen
        seen += len(batch)
        if seen >= rows:
            done.set()

    consumer = BatchConsumer(link, "ingestion-feedback", 500, 1.0, handle)

    async def consume() -> None:
        await consumer.start()
        await done.wait()

    rate = await timed(rows, consume)
    await consumer.stop()
    return rate


async def lifecycle(link: NatsLink, rows: int) -> tuple[Rate, Rate]:
    async def send() -> None:
        for number in range(rows):
            await publish(link.js, envelop(fact(number), source="bench"))

    publishing = await timed(rows, send)
    seen, done = 0, asyncio.Event()

    async def handle(_: object) -> None:
        nonlocal seen
        seen += 1
        if seen >= rows:
            done.set()

    consumers = Consumers(link, [Subscription("curation-segments", SegmentWritten, handle)], service="curation")

    async def consume() -> None:
        await consumers.start()
        await done.wait()

    handling = await timed(rows, consume)
    await consumers.stop()
    return publishing, handling


async def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder, NatsServer(Path(folder) / "nats") as server:
        link = NatsLink(server.url, "bench", on_closed=lambda: None)
        await link.connect()
        await apply(link.js)
        few = max(rows // 10, 500)
        publishing, handling = await lifecycle(link, few)
        emitting, relaying = await outbox(link, Path(folder), rows)
        table = Table("path", "rows", "rows/s", "CPU us/row", title="events, file storage, loopback")
        for name, rate in (
            ("publish, one at a time, confirmed", publishing),
            ("lifecycle handler (lease, retry, CloudEvents)", handling),
            ("outbox: emit, 1,000 rows a commit", emitting),
            ("outbox: relay", relaying),
            ("batch consumer, 512-byte rows", await batches(link, rows)),
        ):
            table.add_row(name, f"{rate.rows:,}", f"{rate.per_second:,.0f}", f"{rate.cpu:,.0f}")
        Console(width=100).print(table)
        await link.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="rows per path")
    chosen = parser.parse_args()
    uvloop.run(main(-(-chosen.rows // WINDOW) * WINDOW))
