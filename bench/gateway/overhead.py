"""The gateway's own cost: an instant engine asked directly and through the gateway, and LiteLLM's proxy beside it.

The proxy under test has a core to itself; engine, broker, load generator (and LiteLLM's upstream) share the others.
"""

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil

from bench.gateway.load import Latencies, Plain, run
from bench.gateway.paced import VERSIONS
from bench.gateway.stack import KEY, TASK, stack
from libs.contracts.stubs.pawl.serving.v1 import engine_pb2, engine_pb2_grpc, inference_pb2
from libs.testing.servers import free_port

Row = tuple[float, str, Latencies, float]
DIRECT, OURS = "engine, directly (gRPC)", "Pawl gateway (HTTP)"


async def measure(home: Path, rates: list[float], seconds: float, litellm: str) -> list[Row]:
    """Rows of (rate, road, latencies, proxy's CPU in ms a request); `litellm` is a python that has LiteLLM's proxy."""
    rows: list[Row] = []
    cores = sorted(os.sched_getaffinity(0))
    own, others = cores[:1], cores[1:] or cores
    os.sched_setaffinity(0, others)  # inherited by what is started from here on
    async with stack(home, 1, 0.0) as made:
        gateway = psutil.Process(made.doors[0].process.pid)
        gateway.cpu_affinity(own)
        opened = grpc.aio.insecure_channel(f"127.0.0.1:{made.engine_port}")
        engine = engine_pb2_grpc.EngineServiceStub(opened)
        asked = engine_pb2.InferRequest(
            messages=[inference_pb2.Message(role="user", content="hello there")], version_digest=VERSIONS[0], whole=True
        )

        async def directly() -> bool:
            return bool([each async for each in engine.Infer(asked)])

        door = Plain(made.doors[0].http_port, "/v1/chat/completions")
        await _until(door.ask)
        await run(door.ask, 100.0, 3.0)
        for rate in rates:
            rows.append((rate, DIRECT, await run(directly, rate, seconds), 0.0))
            rows.append(await _through(OURS, gateway, door, rate, seconds))
        await opened.close()
        door.close()
        if litellm:
            gateway.cpu_affinity(others)
            with _litellm(home, made.doors[0].http_port, litellm) as (pid, port):
                peer = psutil.Process(pid)
                peer.cpu_affinity(own)
                # Its upstream is our gateway: an OpenAI server at hand, whose own time is in the row above.
                beside = Plain(port, "/v1/chat/completions", model="bench", key="sk-bench")
                await _until(beside.ask)
                await run(beside.ask, 20.0, 3.0)
                rows += [await _through("LiteLLM, before the gateway", peer, beside, rate, seconds) for rate in rates]
                beside.close()
    os.sched_setaffinity(0, cores)
    return sorted(rows, key=lambda row: row[0])


async def _through(name: str, process: psutil.Process, door: Plain, rate: float, seconds: float) -> Row:
    before = sum(process.cpu_times()[:2])
    found = await run(door.ask, rate, seconds)
    return rate, name, found, 1000 * (sum(process.cpu_times()[:2]) - before) / max(1, found.answered + found.failed)


async def _until(ask: object) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        try:
            if await ask():  # type: ignore[operator]
                return
        except (OSError, asyncio.IncompleteReadError):
            pass
        await asyncio.sleep(0.2)
    raise RuntimeError("it does not answer")


@contextmanager
def _litellm(home: Path, upstream: int, python: str) -> Iterator[tuple[int, int]]:
    port = free_port()
    config = home / "litellm.yaml"
    config.write_text(
        "model_list:\n- model_name: bench\n  litellm_params:\n"
        f"    model: openai/{TASK}\n    api_base: http://127.0.0.1:{upstream}/v1\n    api_key: {KEY}\n"
        "general_settings:\n  master_key: sk-bench\n"
    )
    script = str(Path(python).parent / "litellm")
    with (home / "litellm.log").open("ab") as log:
        process = subprocess.Popen(
            [script, "--config", str(config), "--port", str(port), "--host", "127.0.0.1"],
            env={**os.environ, "LITELLM_LOG": "ERROR", "NO_PROXY": "127.0.0.1"}, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield process.pid, port
    finally:
        process.terminate()
        process.wait(20)


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = ["| req/s | road | p50 ms | p99 ms | answered/s | failed | CPU ms a request |", "|-|-|-|-|-|-|-|"]
    lines += [
        f"| {rate:g} | {name} | {found.p50:.1f} | {found.p99:.1f} | {found.rate:.0f} | {found.failed} | {cpu:.2f} |"
        for rate, name, found, cpu in rows
    ]
    for rate in sorted({row[0] for row in rows}):
        at = {name: found for each, name, found, _ in rows if each == rate}
        p50, p99 = at[OURS].p50 - at[DIRECT].p50, at[OURS].p99 - at[DIRECT].p99
        lines.append(f"\nAdded by the gateway at {rate:g} req/s: p50 {p50:.1f} ms, p99 **{p99:.1f} ms**.")
    return "\n".join([*lines, "\nBar: p99 at most 5 ms at 500 req/s on one core."])
