"""Memory of a large import: `python -m bench.intake_files [--gigabytes 0.1 10] [--format json] [--row-bytes 4000]`.

Generated files of those sizes stream through a real import (spool, read, quarantine, Parquet, S3, SQLite), each in a
process of its own; every thousandth record is broken. The figure is that process's peak resident memory, everything
included; that it does not grow with the file is what bounds it.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import uvloop

from bench.intake_chaos import BASE, OWNER, write
from libs.artifacts import ObjectStore
from libs.contracts.events import TaskApplied
from libs.contracts.subjects import TASKS, task_key
from libs.contracts.task import TaskSpec
from libs.eventing.apply import apply
from libs.eventing.connection import NatsLink
from libs.eventing.kv import kv_put
from libs.outbox.database import Database
from libs.outbox.migrate import migrate
from libs.testing.servers import NatsServer, S3Server
from services.ingestion.clients.tasks import Tasks
from services.ingestion.domain.imports import ImportRequest
from services.ingestion.store.imports import ImportRecord
from services.ingestion.store.tables import METADATA
from services.ingestion.workflows.imports import Importer

CHUNK = 256 * 1024


def templates(row_bytes: int) -> list[bytes]:
    """Records of a quarter, a half, one and 2.25 times `row_bytes`, as a transcript has short and long turns."""
    words = "why was I charged twice for one plan this month and who will give me the second payment back? "
    made = []
    for share in (0.25, 0.5, 1.0, 2.25):
        half = max(int(row_bytes * share - 120) // 2, 20)
        asked, told = (words * (half // len(words) + 1))[:half], ("The second charge goes back to you. " * half)[:half]
        turns = [
            {"role": "user", "content": f"Question %d: {asked}"},
            {"role": "assistant", "content": f"Answer %d. {told}"},
        ]
        made.append(json.dumps({"messages": turns}).encode())
    return made


async def file(size: int, as_array: bool, row_bytes: int) -> AsyncIterator[bytes]:
    """A file of `size` bytes, never held as a whole; every thousandth record is broken."""
    held, sent, number, made = bytearray(b"[" if as_array else b""), 0, 0, templates(row_bytes)
    while sent + len(held) < size:
        number += 1
        record = made[number % 4] % (number, number) if number % 1000 else b'{"messages": null}'
        held += (b"," if as_array and number > 1 else b"") + record + b"\n"
        if len(held) >= CHUNK:
            sent += len(held)
            yield bytes(held)
            held.clear()
    yield bytes(held + (b"]" if as_array else b""))


async def run(size: int, format_: str, row_bytes: int, home: Path) -> tuple[ImportRecord, float]:
    """Import a file of `size` bytes; returns its counts and the seconds it took."""
    with NatsServer(home / "nats") as server, S3Server(home / "s3") as s3:
        link = NatsLink(server.url, "bench", on_closed=lambda: None)
        await link.connect()
        await apply(link.js)
        objects = ObjectStore(s3.endpoint, s3.access_key, s3.secret_key, "pawl", s3.region)
        await objects.ensure_bucket()
        spec = TaskSpec(task=OWNER[1], base="base")
        applied = TaskApplied(tenant=OWNER[0], task=OWNER[1], revision=1, spec=spec, base_digest=BASE)
        await kv_put(link, TASKS, task_key(*OWNER), applied)
        url = f"sqlite+aiosqlite:///{home / 'state.db'}"
        await migrate(url, "services.ingestion")
        database = Database(url, metadata=METADATA, service="ingestion", bulk=True)
        await database.open()
        tasks = Tasks(link, home / "tasks.json")
        await tasks.start()
        importer = Importer(
            database, objects.for_tenant, tasks, home / "spool", segment_rows=5000, max_bytes=2 * size + CHUNK
        )
        started = time.monotonic()
        request = ImportRequest(OWNER[0], OWNER[1], f"large.{format_}")
        record = await importer.run(request, file(size, format_ == "json", row_bytes))
        seconds = time.monotonic() - started
        await tasks.stop()
        await database.close()
        await link.close()
    return record, seconds


def one(size: int, format_: str, row_bytes: int) -> tuple[ImportRecord, float, float, float]:
    """One import in this process: its counts, seconds by the clock and of this process's CPU, peak memory in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        record, seconds = uvloop.run(run(size, format_, row_bytes, Path(folder)))
    return record, seconds, time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """Status 1 when a peak is a GiB or more, or a row is unaccounted for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.1, 10.0])
    parser.add_argument("--format", choices=["jsonl", "json"], default="jsonl")
    parser.add_argument("--row-bytes", type=int, default=1200, help="mean size of a record; a quarter to 2.25 times it")
    chosen = parser.parse_args()
    lines = ["| file | rows | accepted + quarantined | rows/s | CPU us a row | MB/s | peak resident memory |"]
    lines.append("|---|---|---|---|---|---|---|")
    good = True
    spawn = multiprocessing.get_context("spawn")
    for gigabytes in chosen.gigabytes:
        with ProcessPoolExecutor(1, spawn) as alone:
            record, seconds, spent, peak = alone.submit(
                one, int(gigabytes * 1e9), chosen.format, chosen.row_bytes
            ).result()
        good &= peak < 1024 and record.rows == record.accepted + record.quarantined
        lines.append(
            f"| {gigabytes:g} GB | {record.rows:,} | {record.accepted:,} + {record.quarantined:,} "
            f"| {record.rows / seconds:,.0f} | {spent / record.rows * 1e6:.0f} "
            f"| {gigabytes * 1e3 / seconds:.1f} | **{peak:,.0f} MiB** |"
        )
    sizes = " ".join(f"{each:g}" for each in chosen.gigabytes)
    command = (
        f"python -m bench.intake_files --gigabytes {sizes} --format {chosen.format} --row-bytes {chosen.row_bytes}"
    )
    write("intake_files", "Memory of a large import", command, lines)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
