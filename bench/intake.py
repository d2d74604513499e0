"""Durable intake beside a bare consumer, in a run: `python -m bench.intake [--rounds 3] [--before 1000000] [--timed]`.

Both read the same 512-byte feedback events from a nats-server of the bench's own, one core for the client and the rest
for broker and object storage. The bare one is nats-py's `fetch(100)` with an `ack` for each message. Ours validates,
counts once, joins to the logged inference, judges, redacts, writes Parquet to S3, commits, publishes the outcomes with
confirmation, and only then acknowledges. Every tenth event holds an e-mail address. `--before` is how many signals were
counted before: each new one is looked for among them. `--timed`: ids of signals and requests are UUIDs of version 7,
which begin with the time (as our gateway gives them out); without it they lie anywhere in the indexes.
"""

import argparse
import asyncio
import gc
import json
import os
import sqlite3
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import nats
import psutil
import uvloop
from nats.js.api import AckPolicy, ConsumerConfig
from pydantic import SecretStr

from bench.intake_chaos import BASE, OWNER, write
from libs.artifacts import ObjectStore, TenantSecrets
from libs.contracts.events import TaskApplied
from libs.contracts.inference import Inference, Message, Provenance, Role
from libs.contracts.subjects import TASKS, task_key
from libs.contracts.task import TaskSpec
from libs.eventing import batches as eventing_batches
from libs.eventing.apply import apply
from libs.eventing.batches import BatchConsumer
from libs.eventing.connection import NatsLink
from libs.eventing.kv import kv_put
from libs.outbox.database import Database
from libs.outbox.migrate import migrate
from libs.outbox.relay import Relay
from libs.testing.servers import NatsServer, S3Server
from services.ingestion.app import COLLECTOR
from services.ingestion.clients.tasks import Tasks
from services.ingestion.domain.hygiene import Echoes
from services.ingestion.handlers import feedback as intake
from services.ingestion.handlers.inferences import InferenceIntake
from services.ingestion.handlers.memory import RecentInferences
from services.ingestion.store.tables import METADATA

EVENT_BYTES = 512
_FIRST_MILLISECOND = 1_793_526_000_000
TITLE = "Durable intake beside a bare consumer"


def name_of(prefix: str, number: int, timed: bool) -> str:
    """An id; `timed` ones are UUIDs of version 7, 20 of a millisecond."""
    if not timed:
        return f"{prefix}-{number:09d}"
    return f"{prefix}-{_FIRST_MILLISECOND + number // 20:012x}7{number % 20:03x}8{number:015x}"


def event(number: int, timed: bool = False) -> bytes:
    """A correction of exactly 512 bytes about a request of its own."""
    fields = {
        "kind": "correction", "id": name_of("fb", number, timed), "source": "desk",
        "request_id": name_of("req", number, timed),
        "category": "billing", "user": f"u{number % 5000}", "consent": True, "created_at": "2026-11-01T10:00:00Z",
        "correction": "",
    }  # fmt: skip
    who = f"Write to ada{number % 100}@example.org. " if number % 10 == 0 else ""
    text = who + f"The right answer to case {number} is to refund the second charge and to close the ticket. " * 9
    fields["correction"] = text[: EVENT_BYTES - len(json.dumps(fields))]
    return json.dumps(fields).encode()


def inference(number: int, timed: bool = False) -> Inference:
    """What the model answered to that request."""
    return Inference(
        request_id=name_of("req", number, timed), generation=1, version=1, role=Role.STABLE, unit=f"u{number % 5000}",
        assignment_probability=1.0, output="Please contact support.", created_at=datetime.now(UTC),
        messages=(Message(role="user", content=f"case {number}: I was charged twice for my plan this month"),),
        provenance=Provenance(base_digest=BASE),
    )  # fmt: skip


class Stages:
    """CPU of this process, all threads, by stage; what a stage calls counts for the inner one alone.

    The outcomes of a batch are published beside the batch after it: while a stage waits, that counts for the stage.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[list[float]] = []

    @contextmanager
    def stage(self, name: str) -> Any:
        """Count what happens inside."""
        started, inner = time.process_time(), [0.0]
        self._open.append(inner)
        try:
            yield
        finally:
            self._open.pop()
            spent = time.process_time() - started
            self.seconds[name] += spent - inner[0]
            if self._open:
                self._open[-1][0] += spent

    def watch(self, owner: Any, attribute: str, name: str) -> Callable[[], None]:
        """Count an attribute's calls as a stage; returns how to stop."""
        plain = getattr(owner, attribute)
        if asyncio.iscoroutinefunction(plain):

            async def timed(*arguments: Any, **named: Any) -> Any:
                with self.stage(name):
                    return await plain(*arguments, **named)
        else:

            def timed(*arguments: Any, **named: Any) -> Any:
                with self.stage(name):
                    return plain(*arguments, **named)

        setattr(owner, attribute, timed)
        return lambda: setattr(owner, attribute, plain)


async def publish(link: NatsLink, subject: str, bodies: Iterable[bytes]) -> None:
    waiting = []
    for body in bodies:
        waiting.append(await link.js.publish_async(subject, body, stream=subject.split(".", maxsplit=1)[0].upper()))
        if len(waiting) == 500:
            await asyncio.gather(*waiting)
            waiting.clear()
    await asyncio.gather(*waiting)


async def bare(url: str, events: int) -> tuple[float, float]:
    """Rate by the clock, and CPU in microseconds an event, of fetch(100) and ack."""
    client = await nats.connect(url)
    js = client.jetstream(timeout=60)
    config = ConsumerConfig(durable_name="bare", ack_policy=AckPolicy.EXPLICIT, max_ack_pending=20_000)
    await js.add_consumer("FEEDBACK", config)
    pull = await js.pull_subscribe_bind(durable="bare", stream="FEEDBACK")
    started, spent, done = time.perf_counter(), time.process_time(), 0
    while done < events:
        for message in await pull.fetch(100, timeout=60):
            await message.ack()
            done += 1
    await client.flush(60)
    seconds, cpu = time.perf_counter() - started, time.process_time() - spent
    await js.delete_consumer("FEEDBACK", "bare")
    await client.close()
    return events / seconds, cpu / events * 1e6


async def drained(link: NatsLink, stream: str, durable: str) -> None:
    js = link.client.jetstream(timeout=60)
    while True:
        info = await js.consumer_info(stream, durable)
        if info.num_pending == 0 and info.num_ack_pending == 0:
            return
        await asyncio.sleep(0.05)


def count_before(file: Path, signals: int) -> None:
    """Signals that were counted before, each the first on a response of its own."""
    said = b"x" * 520
    with sqlite3.connect(file) as database:
        keys = sorted((blake2b(b"%d" % number, digest_size=16).digest(), number) for number in range(signals))
        database.executemany("INSERT INTO counted (key, stream_seq) VALUES (?, ?)", keys)
        rows = ((key[::-1], 1, 0.0, said) for key, _ in keys)
        database.executemany("INSERT INTO said (response, revision, stored_at, said) VALUES (?, ?, ?, ?)", rows)
    database.close()


async def ours(link: NatsLink, objects: ObjectStore, home: Path, events: int, batch: int, before: int) -> Any:
    """Rate, CPU and CPU by stage of the whole path, on a database of its own; checks that nothing was lost."""
    url = f"sqlite+aiosqlite:///{home / 'state.db'}"
    await migrate(url, "services.ingestion")
    if before:
        count_before(home / "state.db", before)
    database = Database(url, metadata=METADATA, service="ingestion", bulk=True)
    await database.open()
    tasks = Tasks(link, home / "tasks.json")
    await tasks.start()
    shared: dict[str, Any] = {"recent": RecentInferences(), "echoes": Echoes()}
    secrets = TenantSecrets(objects.for_tenant, SecretStr("the secret of every tenant in benches"))
    feedback = intake.FeedbackIntake(
        database, link, objects.for_tenant, tasks, secrets, patience=60, pace=0.0, **shared
    )
    logged = InferenceIntake(database, link, objects.for_tenant, arrived=lambda: None, pace=0.0, **shared)
    consumer = BatchConsumer(link, "ingestion-inference", batch, 0.2, logged.take)
    await consumer.start()
    await drained(link, "INFERENCE", "ingestion-inference")
    await consumer.stop()
    relay = Relay(database, link)
    await relay.start()
    gc.set_threshold(*COLLECTOR)  # as the process does
    gc.freeze()
    stages = Stages()
    undo = [
        stages.watch(feedback, "_read", "validate"),
        stages.watch(feedback, "_once", "count once"),
        stages.watch(intake.Joining, "inferences", "join"),
        stages.watch(feedback, "_part", "judge, rows"),
        stages.watch(intake.Joining, "said_before", "judge: what was said"),
        stages.watch(intake, "rows_to_parquet", "redact, Parquet"),
        stages.watch(ObjectStore, "put_bytes", "S3"),
        stages.watch(intake.store, "take_in", "SQL"),
        stages.watch(intake.Outcomes, "_encoded", "outcomes, encoded"),
        stages.watch(eventing_batches, "acknowledge", "acknowledge"),
        stages.watch(feedback, "_take", "commit and the rest"),
    ]
    consumer = BatchConsumer(link, "ingestion-feedback", batch, 0.2, feedback.take)
    started, spent = time.perf_counter(), time.process_time()
    await consumer.start()
    await drained(link, "FEEDBACK", "ingestion-feedback")
    seconds, cpu = time.perf_counter() - started, time.process_time() - spent
    for each in undo:
        each()
    counted = await intake.store.intake(database, *OWNER)
    told = (await link.client.jetstream(timeout=60).stream_info("OUTCOME")).state.messages
    assert counted.kinds == {"correction": events}, counted
    assert told == events, told
    await consumer.stop()
    await relay.stop()
    await tasks.stop()
    await database.close()
    stages.seconds["fetch, publish and the rest"] = cpu - sum(stages.seconds.values())
    by_stage = {name: each / events * 1e6 for name, each in stages.seconds.items()}
    return events / seconds, cpu / events * 1e6, by_stage


async def one_round(events: int, batch: int, before: int = 0, timed: bool = False) -> Any:
    async with AsyncExitStack() as held:
        folder = held.enter_context(tempfile.TemporaryDirectory())
        server = held.enter_context(NatsServer(Path(folder) / "nats"))
        with S3Server(Path(folder) / "s3") as s3:
            cores = sorted(os.sched_getaffinity(0))
            if len(cores) > 1:
                for process in (server, s3):
                    psutil.Process(process.pid).cpu_affinity(cores[1:])
                os.sched_setaffinity(0, {cores[0]})
            try:
                link = NatsLink(server.url, "bench", on_closed=lambda: None)
                await link.connect()
                await apply(link.client.jetstream(timeout=60))
                objects = ObjectStore(s3.endpoint, s3.access_key, s3.secret_key, "pawl", s3.region)
                await objects.ensure_bucket()
                spec = TaskSpec(task=OWNER[1], base="base")
                applied = TaskApplied(tenant=OWNER[0], task=OWNER[1], revision=1, spec=spec, base_digest=BASE)
                await kv_put(link, TASKS, task_key(*OWNER), applied)
                log = (inference(number, timed).model_dump_json().encode() for number in range(events))
                await publish(link, "inference.default.bench", log)
                await publish(link, "feedback.default.bench", (event(number, timed) for number in range(events)))
                first = await bare(server.url, events)
                whole = await ours(link, objects, Path(folder), events, batch, before)
                second = await bare(server.url, events)
                await link.close()
            finally:
                os.sched_setaffinity(0, cores)
    return first, whole, second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=5000)
    parser.add_argument("--before", type=int, default=0)
    parser.add_argument("--timed", action="store_true")
    chosen = parser.parse_args()
    asked = (chosen.events, chosen.batch, chosen.before, chosen.timed)
    rounds = [uvloop.run(one_round(*asked)) for _ in range(chosen.rounds)]
    lines = ["| round | bare events/s | ours events/s | ratio | bare us CPU | ours us CPU | ratio of CPU |"]
    lines.append("|---|---|---|---|---|---|---|")
    clock, cpu = [], []
    for number, (first, (rate, spent, _), second) in enumerate(rounds, 1):
        bare_rate, bare_cpu = (first[0] + second[0]) / 2, (first[1] + second[1]) / 2
        clock.append(rate / bare_rate)
        cpu.append(bare_cpu / spent)
        lines.append(
            f"| {number} | {bare_rate:,.0f} | {rate:,.0f} | {clock[-1]:.2f} | {bare_cpu:.1f} | {spent:.1f} "
            f"| {cpu[-1]:.2f} |"
        )
    lines.append(f"| median | | | **{statistics.median(clock):.2f}** | | | **{statistics.median(cpu):.2f}** |")
    lines += ["", "| stage | us CPU an event |", "|---|---|"]
    stages = {name: statistics.median(each[1][2][name] for each in rounds) for name in rounds[0][1][2]}
    lines += [f"| {name} | {spent:.1f} |" for name, spent in sorted(stages.items(), key=lambda each: -each[1])]
    command = f"python -m bench.intake --events {chosen.events} --rounds {chosen.rounds} --batch {chosen.batch}"
    command += " --timed" if chosen.timed else ""
    if chosen.before:
        command, title = f"{command} --before {chosen.before}", f"{TITLE}, {chosen.before:,} signals counted before"
        write("intake_later_timed" if chosen.timed else "intake_later", title, command, lines)
    else:
        write("intake", TITLE, command, lines)


if __name__ == "__main__":
    main()
