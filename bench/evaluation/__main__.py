"""`python -m bench evaluation`: 1,000 items by two arms through serving, against the engine's raw batch, in turn.

The raw side hands every prompt to the model at once; the served side is the evaluator's own generation: gateway, gRPC,
low priority, every answer kept in its database. Both have an engine of their own with the same settings; the sides
alternate, and so does which of them begins a round, so that what else the machine does falls on both. Then the same
road to an engine that keeps a set pace, and what a user's request feels while an evaluation runs. Two rounds of answers
of at most 32 tokens take under eight minutes on two slow cores; fewer than 1,000 items are printed and not kept.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

from pydantic import SecretStr

from bench.evaluation.material import copy_base, items, random_adapter
from bench.evaluation.paced import SLOTS, PacedEngine, serve
from libs.contracts.commands import Contender, EvaluateModel
from libs.contracts.inference import Message, Role
from libs.contracts.task import TaskSpec
from libs.eventing.connection import NatsLink
from libs.outbox.database import Database
from libs.outbox.migrate import migrate
from services.evaluator.clients.gateway import Gateway
from services.evaluator.domain.answers import answer_key
from services.evaluator.domain.presence import Presence
from services.evaluator.handlers.generation import Generation, Job
from services.evaluator.store import METADATA, Answers
from services.serving import conftest
from services.serving.conftest import Stack

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "bench" / "results" / "evaluation.md"
TASK = "bench"
FULL = 1000
"""Items of a run whose figures are kept."""


class Ground(Stack):
    """The stack of serving's tests, around another base."""

    def __init__(self, home: Path, base: Path) -> None:
        self._source = base
        super().__init__(home)

    async def _fill(self) -> None:
        self.base = copy_base(self._source, self.home / "served-base")
        await super()._fill()


def main() -> int:
    """Run all three comparisons and write them down."""
    parser = argparse.ArgumentParser(prog="bench.evaluation")
    parser.add_argument("--base", type=Path, default=ROOT / "examples" / "support-triage" / "base")
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--concurrency", type=int, default=96)
    given = parser.parse_args()
    conftest.START_SECONDS = 900.0  # two engines start at once, on a machine that may be busy
    with tempfile.TemporaryDirectory() as directory:
        ground = Ground(Path(directory), given.base)
        try:
            lines = asyncio.run(_run(ground, given))
        finally:
            for service in (ground.gateway, ground.engine):
                service.stop()
            ground.nats.stop()
            ground.s3.stop()
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    if given.items >= FULL:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text)
    return 0


async def _run(ground: Ground, given: argparse.Namespace) -> list[str]:
    begun = time.perf_counter()
    adapter = random_adapter(ground.base, ground.home / "adapter", ground.base_digest)
    digest = await ground.objects().put_tree(adapter, kind="adapter")
    await ground.put_route(
        TASK, ground.arm(0, Role.STABLE, share=1.0), ground.arm(1, Role.CANDIDATE, digest), max_tokens=given.max_tokens
    )
    # As the engine is shipped: the stack of the tests makes it smaller.
    for name in [key for key in ground.engine.environment if key.startswith("PAWL_ENGINE_MAX") or key.endswith("_MIB")]:
        del ground.engine.environment[name]
    ground.engine.start()
    ground.gateway.start()
    command = [sys.executable, "-m", "bench.evaluation.raw", str(ground.base), str(adapter)]
    command += [str(given.items), str(given.max_tokens)]
    log = ground.home / "raw.log"
    raw = _start(command, log)
    try:
        await asyncio.to_thread(ground.gateway.wait_ready)
        await asyncio.to_thread(ground.engine.wait_ready)
        assert raw.stdout is not None
        while (await asyncio.to_thread(raw.stdout.readline)).strip() != "ready":
            if raw.poll() is not None:
                last = await asyncio.to_thread(log.read_text)
                raise RuntimeError(f"the raw engine did not start: {last[-2000:]}")
        started = time.perf_counter() - begun
        lines = await _compare(ground, raw, digest, given)
    finally:
        raw.kill()
        raw.wait()
    _say("users")
    lines += await _users(ground, digest, given)
    ground.engine.stop()
    _say("paced")
    lines += await _paced(ground, digest, given)
    took = f"{(time.perf_counter() - begun) / 60:.1f} minutes"
    return [*lines, "", f"All of it took {took}, {started / 60:.1f} of them to start the engines."]


def _say(what: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {what}\n")


def _start(command: list[str], log: Path) -> "subprocess.Popen[str]":
    with log.open("wb") as errors:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)


async def _compare(ground: Ground, raw: Any, digest: str, given: argparse.Namespace) -> list[str]:
    rows, ratios = [], []

    async def ask_raw(word: str) -> Any:
        raw.stdin.write(f"{word}\n")
        raw.stdin.flush()
        return json.loads(await asyncio.to_thread(raw.stdout.readline))

    async with _Road(ground, digest, given) as road:
        await road.answer(64, "warm")  # both sides load the adapter and fill their caches before they are timed
        await ask_raw("warm")
        for number in range(given.rounds):
            occasion, raw_first = f"round-{number}", number % 2 == 0
            if raw_first:
                told = await ask_raw("go")
                seconds, tokens = await road.answer(given.items, occasion)
            else:
                seconds, tokens = await road.answer(given.items, occasion)
                told = await ask_raw("go")
            ratios.append(told["seconds"] / seconds)
            _say(f"round {number + 1}: {ratios[-1]:.3f}")
            rows.append(
                f"| {number + 1} | {'raw' if raw_first else 'served'} |"
                f" {told['answers'] / told['seconds']:.1f} | {told['tokens'] / told['seconds']:.0f} |"
                f" {2 * given.items / seconds:.1f} | {tokens / seconds:.0f} | {ratios[-1]:.3f} |"
            )
    made = (
        f"`python -m bench evaluation` ({' '.join(sys.argv[1:]) or 'no options'}), {platform.machine()}, "
        f"{len(os.sched_getaffinity(0))} cores (load {os.getloadavg()[0]:.1f} at the end of it), {given.items} items"
        f" by 2 arms (base and a LoRA adapter of rank 16), at most {given.max_tokens} tokens,"
        f" {given.concurrency} at once."
    )
    return [
        "# Evaluation through serving",
        "",
        made,
        "",
        "Raw: every prompt handed to vLLM at once. Served: gateway, gRPC, low priority, answers kept as they come.",
        "",
        "| round | first | raw answers/s | raw tokens/s | served answers/s | served tokens/s | served / raw |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        f"Median of the ratios: **{statistics.median(ratios):.3f}** (bar: 0.8).",
    ]


async def _users(ground: Ground, digest: str, given: argparse.Namespace) -> list[str]:
    """Latency of one user after another, alone and while an evaluation runs."""
    client = Gateway(ground.gateway.address, SecretStr("client-key"), deadline=60.0)
    client._metadata = (("authorization", "Bearer client-key"),)  # noqa: SLF001 - a user, not the evaluator

    async def ask(count: int) -> list[float]:
        seconds = []
        for number in range(count):
            begun = time.perf_counter()
            told = (Message(role="user", content=f"Repeat: lemon {number}"),)
            await client.generate(f"{TASK}@0", told, item_id="u", request_id=f"u-{time.time_ns()}", max_tokens=16)
            seconds.append(time.perf_counter() - begun)
        return seconds

    alone = await ask(40)
    async with _Road(ground, digest, given) as road:
        road.presence.note(time.monotonic())
        running = asyncio.create_task(road.answer(max(64, given.items // 8), "behind"))
        await asyncio.sleep(0.5)
        beside = await ask(5)
        while not running.done():
            # In the service the log of inferences tells that users are there.
            road.presence.note(time.monotonic())
            beside += await ask(5)
        await running
    await client.close()
    first, second = (f"{1000 * statistics.median(each):.0f} ms ({len(each)})" for each in (alone, beside))
    return [
        "",
        f"A user's request of 16 tokens, median: {first} alone, {second} while an evaluation runs at low priority.",
    ]


async def _paced(ground: Ground, digest: str, given: argparse.Namespace) -> list[str]:
    link = NatsLink(ground.nats.url, "bench", on_closed=lambda: None)
    await link.connect(wait=True)
    pace = 1.0  # 64 answers a second: about what the engine of this bench gives
    engine = PacedEngine(ground.base_digest, pace)
    beating = await serve(engine, ground.base_digest, (ground.base_digest, digest), link)
    try:
        await asyncio.sleep(4.0)
        async with _Road(ground, digest, given) as road:
            await road.answer(32, "paced-warm")
            seconds, _ = await road.answer(given.items, "paced")
        ratio = engine.least(2 * given.items) / seconds
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        await link.close()
    told = (
        f"An engine that keeps its pace ({SLOTS} answers at once, {pace:g} s each), {given.items} items by 2 arms:"
        f" **{ratio:.3f}** of what it gives at best comes through serving (bar: 0.95)."
    )
    return ["", told]


class _Road:
    """The evaluator's own generation over a database of its own."""

    def __init__(self, ground: Ground, digest: str, given: argparse.Namespace) -> None:
        self._ground, self._digest, self._given = ground, digest, given

    async def __aenter__(self) -> Self:
        url = f"sqlite+aiosqlite:///{self._ground.home / f'answers-{time.time_ns()}.db'}"
        await migrate(url, "services.evaluator")
        self._database = Database(url, metadata=METADATA, service="evaluator")
        await self._database.open()
        self._gateway = Gateway(self._ground.gateway.address, SecretStr("evaluator-key"), deadline=120.0)
        self.presence = Presence()
        self._generation = Generation(
            Answers(self._database), self._gateway, patience=60.0, routing=60.0, presence=self.presence
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._gateway.close()
        await self._database.close()

    async def answer(self, count: int, occasion: str) -> tuple[float, int]:
        """Both arms answer `count` items; seconds and tokens."""
        spec = TaskSpec.model_validate(
            {
                "task": TASK, "base": "x", "output": {"max_tokens": self._given.max_tokens},
                "evaluation": {"concurrency": self._given.concurrency},
            }
        )  # fmt: skip
        base, tuned = self._ground.base_digest, self._digest
        command = EvaluateModel(
            tenant="default", task=TASK, turn_id="bench", spec=spec, report_id=occasion,
            candidate=Contender(name="fine_tuned", version=1, digest=tuned),
            baselines=(Contender(name="base", version=0, digest=base),), suite_digest="", dataset_digest="",
        )  # fmt: skip
        jobs = [
            Job(
                answer_key(who, "", item.messages, self._given.max_tokens, occasion), name, item.item_id,
                f"{TASK}@{version}", who, (item.messages,),
            )
            for name, version, who in (("fine_tuned", 1, tuned), ("base", 0, base))
            for item in items(count)
        ]  # fmt: skip
        begun = time.perf_counter()
        found = await self._generation.answer(command, jobs)
        seconds = time.perf_counter() - begun
        return seconds, sum(answer.completion_tokens for answer in found.values())


if __name__ == "__main__":
    sys.exit(main())
