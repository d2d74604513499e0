"""Many adapters over one base: drawn at random against one alone, with slots for all and with too few of them."""

import argparse
import asyncio
import collections
import random
import time
from pathlib import Path
from typing import Any

from bench.serving.ground import NO_END, Answer, Ground, answering, door, percentile, stream

ADAPTERS = 32


async def measure(home: Path, given: argparse.Namespace) -> str:
    """Markdown."""
    lines = [
        f"{ADAPTERS} adapters of rank 16; {given.requests} answers of {given.tokens} tokens, {given.at_once} at once\n",
        "| slots | load | tokens/s | answers p50 s | p99 s | adapters answered | slowest adapter / median |",
        "|-|-|-|-|-|-|-|",
    ]
    ratios = {}
    for slots in (ADAPTERS + 1, 8):
        ground = await asyncio.to_thread(
            Ground, home / str(slots), given.base, max_loras=slots, max_cpu_loras=ADAPTERS + 1, max_lora_rank=16
        )
        try:
            tasks = await ground.tasks(ADAPTERS, max_tokens=given.tokens)
            await ground.up()
            async with door(ground.gateway.address) as stub:
                await answering(stub, tasks)
                await at_random(stub, tasks, given, 0)
                found = collections.defaultdict(list)
                for turn in range(given.rounds):
                    found["one adapter"].append(await at_random(stub, tasks[:1], given, turn))
                    found["32 at random"].append(await at_random(stub, tasks, given, turn))
        finally:
            ground.down()
        best = {}
        for load, runs in found.items():
            rate, answers = sorted(runs, key=lambda each: each[0])[len(runs) // 2]
            best[load] = rate
            lines.append(f"| {slots} | {load} | {rate:.0f} | {fairness(answers)} |")
            print(lines[-1], flush=True)
        ratios[slots] = best["32 at random"] / best["one adapter"]
    told = ", ".join(f"{ratio:.3f} with {slots} slots" for slots, ratio in ratios.items())
    return "\n".join([*lines, f"\n32 at random against one: **{told}** (bar: 0.9 where slots suffice)."])


async def at_random(
    stub: Any, tasks: list[str], given: argparse.Namespace, turn: int
) -> tuple[float, list[tuple[str, Answer]]]:
    """Tokens a second, and every answer with its task."""
    gate, rng = asyncio.Semaphore(given.at_once), random.Random(turn)
    chosen = [rng.choice(tasks) for _ in range(given.requests)]

    async def one(number: int, task: str) -> tuple[str, Answer]:
        async with gate:
            answer = await stream(stub, task, number, given.tokens, bias=NO_END)
        assert not answer.error, answer.error
        assert answer.model == f"{task}@1"
        return task, answer

    began = time.perf_counter()
    answers = await asyncio.gather(*(one(number, task) for number, task in enumerate(chosen)))
    return sum(each.tokens for _, each in answers) / (time.perf_counter() - began), answers


def fairness(answers: list[tuple[str, Answer]]) -> str:
    """Cells of a table: percentiles, how many tasks, the slowest beside the median."""
    took = [answer.at[-1] - answer.began for _, answer in answers]
    mine = collections.defaultdict(list)
    for (task, _), seconds in zip(answers, took, strict=True):
        mine[task].append(seconds)
    means = sorted(sum(each) / len(each) for each in mine.values())
    middle = means[len(means) // 2]
    return f"{percentile(took, 0.5):.2f} | {percentile(took, 0.99):.2f} | {len(mine)} | {means[-1] / middle:.2f}"
