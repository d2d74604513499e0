"""On a GPU, over a base of a real one's shape: throughput, many adapters, latency, each beside what it is held to.

One engine of each side: AsyncLLM alone, ours behind the gateway, vLLM's own server. They share the GPU and are asked in
turn; whoever is not asked computes nothing. All have the same slots, memory for keys and values, and CUDA graphs.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.serving.adapters import ADAPTERS, at_random, fairness
from bench.serving.ground import Ground, answering, door
from bench.serving.latency import SIDES, bench_serve, reachable, table, vllm_server
from bench.serving.throughput import alone_rate, raw_engine, through_rate
from libs.testing.servers import free_port

KV_MIB = 8192
SHARE = 0.4
"""Of the GPU's memory that each side may look at."""
SECONDS, WARM = 8, 16
OPTIONS: dict[str, Any] = {
    "max_loras": ADAPTERS + 1, "max_cpu_loras": ADAPTERS + 1, "max_lora_rank": 16, "kv_cache_mib": KV_MIB,
    "gpu_memory_utilization": SHARE, "enforce_eager": False,
}  # fmt: skip
FLAGS = (
    "--max-loras", str(ADAPTERS + 1), "--max-cpu-loras", str(ADAPTERS + 1),
    "--kv-cache-memory-bytes", str(KV_MIB << 20), "--gpu-memory-utilization", str(SHARE),
)  # fmt: skip


async def measure(home: Path, given: argparse.Namespace) -> str:
    """Markdown."""
    drawn = home / "drawn"
    command = [sys.executable, "-m", "bench.training.shapes", given.shape, str(drawn)]
    await asyncio.to_thread(subprocess.run, command, check=True)
    ground = await asyncio.to_thread(Ground, home / "ground", drawn, **OPTIONS)
    parts = [f"Base: Llama of the {given.shape} shape, random weights. {_gpu()}."]
    port, log = free_port(), ground.home / "vllm.log"
    try:
        tasks = await ground.tasks(ADAPTERS, max_tokens=given.tokens)
        with log.open("ab") as written:
            theirs = vllm_server(ground, tasks[0], port, written, FLAGS)
        try:
            raw, _, _ = await asyncio.gather(
                _timed("AsyncLLM", asyncio.to_thread(raw_engine, ground, **OPTIONS)),
                _timed("ours", ground.up()),
                _timed("vLLM's server", asyncio.to_thread(reachable, f"http://127.0.0.1:{port}/health", theirs, log)),
            )
            async with door(ground.gateway.address) as stub:
                await answering(stub, tasks)
                parts.append(await _throughput(stub, tasks, raw, given))
                raw.kill()
                raw.wait()
                parts.append(await _adapters(stub, tasks, given))
            parts.append(await _latency(ground, tasks[0], port, given))
        finally:
            theirs.terminate()
            theirs.wait(60)
    finally:
        ground.down()
    return "\n\n".join(parts)


def _gpu() -> str:
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except OSError:
        return "No GPU: these figures say nothing of one"


async def _timed(what: str, work: Any) -> Any:
    began = time.monotonic()
    made = await work
    print(f"{what} up after {time.monotonic() - began:.0f} s", flush=True)
    return made


async def _throughput(stub: Any, tasks: list[str], raw: "subprocess.Popen[str]", given: argparse.Namespace) -> str:
    await asyncio.to_thread(alone_rate, raw, given)
    await through_rate(stub, tasks[0], given)
    lines = [
        "## Tokens a second\n",
        f"{given.requests} requests of {given.tokens} tokens, {given.at_once} at once, streamed over gRPC.\n",
        "| round | AsyncLLM alone | gateway | ratio |",
        "|-|-|-|-|",
    ]
    ratios = []
    for number in range(1, given.rounds + 1):
        alone = await asyncio.to_thread(alone_rate, raw, given)
        through = await through_rate(stub, tasks[0], given)
        ratios.append(through / alone)
        lines.append(f"| {number} | {alone:,.0f} | {through:,.0f} | {ratios[-1]:.3f} |")
        print(lines[-1], flush=True)
    return "\n".join([*lines, f"\nMedian of the ratios: **{statistics.median(ratios):.3f}** (bar: 0.97)."])


async def _adapters(stub: Any, tasks: list[str], given: argparse.Namespace) -> str:
    lines = [
        f"## {ADAPTERS} adapters of rank 16\n",
        "| load | tokens/s | answers p50 s | p99 s | adapters answered | slowest adapter / median |",
        "|-|-|-|-|-|-|",
    ]
    await at_random(stub, tasks, given, 0)
    rates: dict[str, list[float]] = {"one adapter": [], f"{ADAPTERS} at random": []}
    for turn in range(given.rounds):
        for load, chosen in zip(rates, (tasks[:1], tasks), strict=True):
            rate, answers = await at_random(stub, chosen, given, turn)
            rates[load].append(rate)
            lines.append(f"| {load} | {rate:,.0f} | {fairness(answers)} |")
            print(lines[-1], flush=True)
    one, many = (statistics.median(each) for each in rates.values())
    return "\n".join([*lines, f"\n{ADAPTERS} at random against one: **{many / one:.3f}** (bar: 0.9)."])


async def _latency(ground: Ground, task: str, port: int, given: argparse.Namespace) -> str:
    ports = dict(zip(SIDES, (port, ground.http_port), strict=True))
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for count in (WARM, *[int(SECONDS * given.rate)] * given.rounds):
        for side in SIDES:
            told = await asyncio.to_thread(bench_serve, ground, task, ports[side], given, count)
            if count != WARM:
                found[side].append(told)
            print(side, json.dumps({key: told[key] for key in told if key.startswith(("p50", "p99"))}), flush=True)
    return "## Latency beside vLLM's own server\n\n" + table(found, argparse.Namespace(**{**vars(given), "paced": 1.0}))
