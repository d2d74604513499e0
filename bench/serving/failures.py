"""An engine killed under load, and a minute without broker and object storage: what users see of it."""

import argparse
import asyncio
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from nats.errors import Error as NatsError

from bench.serving.ground import Answer, Ground, answering, door, stream
from libs.contracts.subjects import INFERENCE
from libs.testing.wait import eventually

TASKS = 4


async def kill(home: Path, given: argparse.Namespace) -> str:
    """Markdown."""
    ground = await asyncio.to_thread(Ground, home, given.base, max_lora_rank=16)
    rows = []
    try:
        tasks = await ground.tasks(TASKS, max_tokens=64)
        await ground.up()
        async with door(ground.gateway.address) as stub:
            await answering(stub, tasks)
            truth = {task: (await stream(stub, task, 0, 16)).text for task in tasks}
            for _ in range(given.kills):
                rows.append(await _killed(ground, stub, tasks, truth))
                print(rows[-1], flush=True)
    finally:
        ground.down()
    lines = [
        f"{TASKS} tasks with an adapter each, 16 streams at any moment; SIGKILL, then a start as a supervisor would.\n",
        "| kill | answered | UNAVAILABLE (mid-stream) | other errors | wrong adapter | first answer after, s |",
        "|-|-|-|-|-|-|",
    ]
    lines += [f"| {number} | " + " | ".join(row) + " |" for number, row in enumerate(rows, start=1)]
    return "\n".join(lines)


async def _killed(ground: Ground, stub: Any, tasks: list[str], truth: dict[str, str]) -> tuple[str, ...]:
    ended = asyncio.Event()
    answers: list[tuple[str, Answer]] = []

    async def user(number: int) -> None:
        while not ended.is_set():
            task = tasks[number % TASKS]
            answers.append((task, await stream(stub, task, 0, 16, timeout=120)))

    running = [asyncio.create_task(user(number)) for number in range(16)]
    await asyncio.sleep(3.0)
    at = time.perf_counter()
    ground.engine.stop(signal.SIGKILL)
    ground.engine.start()
    await eventually(lambda: any(not answer.error and answer.began > at + 0.5 for _, answer in answers), 300, every=0.1)
    back = min(answer.at[-1] for _, answer in answers if not answer.error and answer.began > at + 0.5)
    await asyncio.sleep(3.0)
    ended.set()
    await asyncio.gather(*running)
    good = [(task, answer) for task, answer in answers if not answer.error]
    wrong = sum(answer.text != truth[task] or answer.model != f"{task}@1" for task, answer in good)
    away = sum(answer.error == "UNAVAILABLE" for _, answer in answers)
    other = sum(answer.error not in ("", "UNAVAILABLE") for _, answer in answers)
    return str(len(good)), str(away), str(other), str(wrong), f"{back - at:.1f}"


async def outage(home: Path, given: argparse.Namespace) -> str:
    """Markdown."""
    ground = await asyncio.to_thread(Ground, home, given.base, max_lora_rank=16)
    try:
        tasks = await ground.tasks(TASKS, max_tokens=64)
        await ground.up()
        async with door(ground.gateway.address) as stub:
            await answering(stub, tasks)
            before = await _logged(ground)
            answers = await _through_outage(ground, stub, tasks, given.outage)
            ground.nats.start()
            ground.s3.start()
            began = time.perf_counter()

            async def complete() -> bool:
                return await _logged(ground) - before >= len(answers)

            with suppress(AssertionError):
                await eventually(complete, 60, every=0.2)
            arrived = await _logged(ground) - before
            took = time.perf_counter() - began
    finally:
        ground.down()
    failed = sum(bool(answer.error) for answer in answers)
    return (
        f"NATS and object storage stopped for {given.outage:.0f} s (there is no registry in this stack at all), "
        "8 streams at any moment.\n\n| what | count |\n|-|-|\n"
        f"| asked while they were away | {len(answers)} |\n| answered | {len(answers) - failed} |\n"
        f"| failed | {failed} |\n| records that arrived afterwards | {arrived} (within {took:.1f} s) |"
    )


async def _through_outage(ground: Ground, stub: Any, tasks: list[str], seconds: float) -> list[Answer]:
    ended = asyncio.Event()
    answers: list[Answer] = []

    async def user(number: int) -> None:
        while not ended.is_set():
            answers.append(await stream(stub, tasks[number % TASKS], len(answers), 16))

    await asyncio.to_thread(ground.nats.stop)
    await asyncio.to_thread(ground.s3.stop)
    running = [asyncio.create_task(user(number)) for number in range(8)]
    await asyncio.sleep(seconds)
    ended.set()
    await asyncio.gather(*running)
    return answers


async def _logged(ground: Ground) -> int:
    try:
        return await ground.linked(_messages)
    except (NatsError, OSError):
        return 0  # not connected again yet


async def _messages(link: Any) -> int:
    return int((await link.js.stream_info(INFERENCE)).state.messages)
