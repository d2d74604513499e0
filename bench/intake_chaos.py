"""Feedback while ingestion is killed -9 at random and the broker restarted: nothing lost, nothing counted twice.

`python -m bench.intake_chaos [--events 1000000] [--seed 1]` runs the service as a process of its own on servers of its
own. A twentieth of the events is published twice, a tenth is about a logged inference. At the end every row of every
listed segment is read back and compared with what was published, and every outcome with what was joined.
"""

import argparse
import asyncio
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import uvloop
from nats.errors import Error as NatsError

from libs.artifacts import ObjectStore
from libs.contracts.errors import PawlError
from libs.contracts.events import TaskApplied
from libs.contracts.inference import Inference, Message, Provenance, Role
from libs.contracts.subjects import TASKS, task_key
from libs.contracts.task import TaskSpec
from libs.eventing.apply import apply
from libs.eventing.connection import NatsLink
from libs.eventing.kv import kv_put
from libs.outbox.database import Database
from libs.runtime.bound import bound_command
from libs.testing.servers import NatsServer, S3Server, free_port
from services.ingestion.compute.segments import segment_of
from services.ingestion.domain.signals import key_of
from services.ingestion.store.segments import segments_after
from services.ingestion.store.signals import intake
from services.ingestion.store.tables import METADATA

BASE = "sha256:" + "0" * 64
OWNER = ("default", "bench")
INFERENCES = 200
WINDOW = 200
STUCK_SECONDS = 600.0


@dataclass(slots=True)
class Outcome:
    """What came of it: counts of events, kills and restarts, and the two numbers that must be nought."""

    events: int
    repeated: int = 0
    kills: int = 0
    restarts: int = 0
    lost: int = 0
    twice: int = 0
    outcomes: int = 0
    outcomes_missing: int = 0
    seconds: float = 0.0
    kinds: dict[str, int] = field(default_factory=dict)


class Service:
    """The process under test."""

    def __init__(self, home: Path, server: NatsServer, s3: S3Server) -> None:
        self.database_url = f"sqlite+aiosqlite:///{home / 'state.db'}"
        self._log = home / "ingestion.log"
        self._env = os.environ | {
            "PAWL_NATS_URL": server.url, "PAWL_S3_ENDPOINT": s3.endpoint, "PAWL_S3_ACCESS_KEY": s3.access_key,
            "PAWL_S3_SECRET_KEY": s3.secret_key, "PAWL_STATE_DIR": str(home / "ingestion"), "PAWL_LOG_LEVEL": "WARNING",
            "PAWL_INGESTION_DATABASE_URL": self.database_url, "PAWL_INGESTION_GRPC_PORT": str(free_port()),
            "PAWL_INGESTION_HEALTH_PORT": str(free_port()), "PAWL_INGESTION_JOIN_PATIENCE": "2",
        }  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, bound to this process."""
        with self._log.open("ab") as log:
            command = bound_command([sys.executable, "-m", "services.ingestion"])
            self._process = subprocess.Popen(command, env=self._env, stdout=log, stderr=log)

    def tail(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-3000:]

    def watch(self) -> None:
        """Start it again if it ended by itself, as its supervisor would."""
        if self._process is None or self._process.poll() is not None:
            self.start()

    def kill(self) -> None:
        """As a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def body(number: int) -> bytes:
    """Event `number`; every tenth is about a logged inference."""
    fields: dict[str, Any] = {
        "kind": "correction",
        "id": f"e{number}",
        "source": "desk",
        "correction": f"answer {number}",
    }
    fields |= {"request_id": f"r{number % INFERENCES}"} if number % 10 == 0 else {"input": f"question {number}"}
    return json.dumps(fields).encode()


async def store(link: NatsLink, subject: str, data: bytes) -> None:
    """Publish until the broker has it; a lost confirmation makes a repetition, as with any sender."""
    while True:
        try:
            await link.js.publish(subject, data, timeout=5)
            return
        except (NatsError, OSError, PawlError):
            await asyncio.sleep(0.2)


async def send(link: NatsLink, numbers: list[int]) -> None:
    gate = asyncio.Semaphore(WINDOW)

    async def one(number: int) -> None:
        async with gate:
            await store(link, "feedback.default.bench", body(number))

    for at in range(0, len(numbers), 5000):
        await asyncio.gather(*(one(number) for number in numbers[at : at + 5000]))


async def disturb(
    told: Outcome, service: Service, server: NatsServer, chance: random.Random, pause: float, enough: asyncio.Event
) -> None:
    """Kill the service again and again, and now and then the broker; what was killed last is started before it ends."""
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(enough.wait(), chance.uniform(0.3, 1.7) * pause)
            return
        if chance.random() < 0.25:
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            told.restarts += 1
        else:
            await asyncio.to_thread(service.kill)
            service.start()
            told.kills += 1


async def run(events: int, seed: int, home: Path, *, pause: float = 8.0) -> Outcome:
    """Publish, disturb, wait until all is acknowledged, and compare."""
    chance = random.Random(seed)
    numbers = [*range(events), *chance.sample(range(events), events // 20)]
    chance.shuffle(numbers)
    told, started = Outcome(events, repeated=len(numbers) - events), time.monotonic()
    with ExitStack() as held:
        server = held.enter_context(NatsServer(home / "nats"))
        s3 = held.enter_context(S3Server(home / "s3"))
        objects = ObjectStore(s3.endpoint, s3.access_key, s3.secret_key, "pawl", s3.region)
        await objects.ensure_bucket()
        link = NatsLink(server.url, "bench", on_closed=lambda: None)
        await link.connect()
        await apply(link.js)
        spec = TaskSpec(task=OWNER[1], base="base")
        applied = TaskApplied(tenant=OWNER[0], task=OWNER[1], revision=1, spec=spec, base_digest=BASE)
        await kv_put(link, TASKS, task_key(*OWNER), applied)
        service = Service(home, server, s3)
        held.callback(service.kill)
        service.start()
        for number in range(INFERENCES):
            await store(link, "inference.default.bench", _inference(number))
        enough = asyncio.Event()
        trouble = asyncio.create_task(disturb(told, service, server, chance, pause, enough))
        await send(link, numbers)
        await asyncio.sleep(2 * pause)
        enough.set()
        await trouble
        service.kill()
        service.start()
        await _settled(link, service)
        await _compare(told, service, objects, link)
        await link.close()
    told.seconds = time.monotonic() - started
    return told


async def _settled(link: NatsLink, service: Service) -> None:
    """Return when all is acknowledged; RuntimeError, with the service's log, when ten minutes bring nothing forward."""
    last, since = -1, time.monotonic()
    while time.monotonic() - since < STUCK_SECONDS:
        service.watch()
        with suppress(NatsError, OSError, PawlError):
            info = await link.js.consumer_info("FEEDBACK", "ingestion-feedback")
            left = info.num_pending + info.num_ack_pending
            if left == 0:
                return
            if left != last:
                last, since = left, time.monotonic()
        await asyncio.sleep(0.2)
    raise RuntimeError(f"{last} events are left and nothing moves:\n{service.tail()}")


async def _compare(told: Outcome, service: Service, objects: ObjectStore, link: NatsLink) -> None:
    pause = 1.0
    while True:
        # Signals that wait for their inference have still to be released. Each look ends the service, and the next one
        # must be long enough after it for the service to start and to release them, however slow the machine.
        waiting = await _read(service, lambda database: intake(database, *OWNER))
        if waiting.waiting == 0:
            break
        await asyncio.sleep(pause)
        pause = min(2 * pause, 30.0)
    service.kill()
    told.kinds = waiting.kinds
    rows: Counter[str] = Counter()
    for segment in await _read(service, lambda database: segments_after(database, *OWNER, 0, 10**6)):
        data = await objects.for_tenant(OWNER[0]).get_bytes(segment.digest)
        table = segment_of(pq.read_table(io.BytesIO(data)), segment.number)
        rows.update(table.column("row_id").to_pylist())
    expected = {f"fb-{key_of(*OWNER, 'desk', f'e{number}').hex()}" for number in range(told.events)}
    told.lost = len(expected - rows.keys()) + len(rows.keys() - expected)
    told.twice = sum(rows.values()) - len(rows) + abs(sum(told.kinds.values()) - told.events)
    service.start()
    joined = len(range(0, told.events, 10))
    for _ in range(300):
        told.outcomes = (await link.js.stream_info("OUTCOME")).state.messages
        if told.outcomes >= joined:
            break
        await asyncio.sleep(0.2)
    told.outcomes_missing = joined - told.outcomes


async def _read(service: Service, ask: Any) -> Any:
    database = Database(service.database_url, metadata=METADATA, service="ingestion")
    service.kill()
    await database.open()
    try:
        return await ask(database)
    finally:
        await database.close()
        service.start()


def _inference(number: int) -> bytes:
    return (
        Inference(
            request_id=f"r{number}", generation=1, version=1, role=Role.STABLE, unit="u", assignment_probability=1.0,
            output="no", created_at=datetime.now(UTC), messages=(Message(role="user", content=f"question {number}"),),
            provenance=Provenance(base_digest=BASE),
        )
        .model_dump_json()
        .encode()
    )  # fmt: skip


def write(name: str, title: str, command: str, lines: list[str]) -> None:
    """Print a table and keep it in `bench/results/<name>.md` with the command that made it."""
    text = "\n".join([f"# {title}", "", f"`{command}`", "", *lines, ""])
    print(text)
    path = Path(__file__).parent / "results" / f"{name}.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def main() -> int:
    """Status 1 when an event is missing or counts twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = uvloop.run(run(chosen.events, chosen.seed, Path(folder)))
    lines = ["| what | |", "|---|---|"]
    lines += [
        f"| events published (and {told.repeated:,} of them twice) | {told.events:,} |",
        f"| ingestion killed -9 | {told.kills} times |",
        f"| broker killed -9 and started again | {told.restarts} times |",
        f"| lost | **{told.lost}** |",
        f"| counted twice | **{told.twice}** |",
        f"| outcomes told, missing | {told.outcomes:,}, {told.outcomes_missing} |",
        f"| seconds | {told.seconds:,.0f} |",
    ]
    command = f"python -m bench.intake_chaos --events {chosen.events} --seed {chosen.seed}"
    write("intake_chaos", "Feedback while everything is killed", command, lines)
    return int(bool(told.lost or told.twice or told.outcomes_missing))


if __name__ == "__main__":
    sys.exit(main())
