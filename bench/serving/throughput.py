"""Tokens a second through the gateway against AsyncLLM alone, in turn, on the same cores with the same settings."""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.serving.ground import NO_END, Ground, answering, door, stream


async def measure(home: Path, given: argparse.Namespace) -> str:
    """Markdown."""
    ground = await asyncio.to_thread(Ground, home, given.base)
    try:
        (task,) = await ground.tasks(1, max_tokens=given.tokens)
        raw = await asyncio.to_thread(raw_engine, ground)
        await ground.up()
        try:
            async with door(ground.gateway.address) as stub:
                await answering(stub, [task])
                await through_rate(stub, task, given)
                await asyncio.to_thread(alone_rate, raw, given)
                rows = []
                for _ in range(given.rounds):
                    alone = await asyncio.to_thread(alone_rate, raw, given)
                    through = await through_rate(stub, task, given)
                    rows.append((alone, through, through / alone))
                    print(rows[-1], flush=True)
        finally:
            raw.kill()
            raw.wait()
    finally:
        ground.down()
    lines = [
        f"{given.requests} requests of {given.tokens} tokens, {given.at_once} at once, streamed over gRPC.\n",
        "| round | AsyncLLM tokens/s | gateway tokens/s | ratio |",
        "|-|-|-|-|",
    ]
    lines += [f"| {number} | {a:.0f} | {b:.0f} | {r:.3f} |" for number, (a, b, r) in enumerate(rows, start=1)]
    bar = 0.97 if given.paced else 0.8
    return "\n".join(
        [*lines, f"\nMedian of the ratios: **{statistics.median(row[2] for row in rows):.3f}** (bar: {bar})."]
    )  # fmt: skip


def raw_engine(ground: Ground, **options: object) -> "subprocess.Popen[str]":
    """AsyncLLM in a process of its own, started; `options` are those of ModelOptions that differ."""
    adapter = ground.home / "adapters" / "random-0"
    log = ground.home / "raw.log"
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.serving.raw", str(ground.base), str(adapter), json.dumps(options)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log.open("ab"), text=True,
    )  # fmt: skip
    assert process.stdout is not None
    while process.stdout.readline().strip() != "ready":
        if process.poll() is not None:
            raise RuntimeError(f"AsyncLLM did not start: {log.read_text(errors='replace')[-3000:]}")
    return process


def alone_rate(raw: "subprocess.Popen[str]", given: argparse.Namespace) -> float:
    """Its tokens a second."""
    assert raw.stdin is not None
    assert raw.stdout is not None
    asked = {"requests": given.requests, "tokens": given.tokens, "at_once": given.at_once}
    raw.stdin.write(json.dumps(asked) + "\n")
    raw.stdin.flush()
    told = json.loads(raw.stdout.readline())
    return float(told["tokens"] / told["seconds"])


async def through_rate(stub: Any, task: str, given: argparse.Namespace) -> float:
    """Those of the gateway."""
    gate = asyncio.Semaphore(given.at_once)

    async def one(number: int) -> int:
        async with gate:
            answer = await stream(stub, task, number, given.tokens, bias=NO_END)
        assert not answer.error, answer.error
        return answer.tokens

    began = time.perf_counter()
    tokens = await asyncio.gather(*(one(number) for number in range(given.requests)))
    return sum(tokens) / (time.perf_counter() - began)
