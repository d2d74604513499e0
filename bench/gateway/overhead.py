"""The gateway's own cost: an instant engine asked directly and through the gateway, and LiteLLM's proxy beside it.

The proxy under test has a core to itself, all its threads; engine, broker and load generator share the others. LiteLLM
is measured after the gateway, when nothing else runs, before a server that costs next to nothing.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil

from bench.gateway.load import MOST_OPEN, Latencies, Plain, run
from bench.gateway.paced import VERSIONS
from bench.gateway.stack import on_cores, stack
from libs.contracts.stubs.pawl.serving.v1 import engine_pb2, engine_pb2_grpc, inference_pb2
from libs.testing.servers import free_port

Row = tuple[float, str, Latencies, float]
DIRECT, OURS = "engine, directly (gRPC)", "Pawl gateway (HTTP)"
CANNED, PEER = "canned server, directly (HTTP)", "LiteLLM's proxy (HTTP)"


async def measure(home: Path, rates: list[float], seconds: float, litellm: str) -> list[Row]:
    """Rows of (rate, road, latencies, proxy's CPU in ms a request); `litellm` is a python that has LiteLLM's proxy."""
    rows: list[Row] = []
    cores = sorted(os.sched_getaffinity(0))
    own, others = cores[:1], cores[1:] or cores
    os.sched_setaffinity(0, others)  # inherited by what is started from here on
    async with stack(home, 1, 0.0, cores=own) as made:
        gateway = psutil.Process(made.doors[0].process.pid)
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
        rows += await _beside(home, rates, seconds, litellm, own)
    os.sched_setaffinity(0, cores)
    return sorted(rows, key=lambda row: row[0])


async def _beside(home: Path, rates: list[float], seconds: float, python: str, own: list[int]) -> list[Row]:
    rows: list[Row] = []
    with _litellm(home, python, own) as (pid, upstream_port, port):
        straight = Plain(upstream_port, "/v1/chat/completions")
        beside = Plain(port, "/v1/chat/completions", model="bench", key="sk-bench")
        await _until(straight.ask)
        await _until(beside.ask)
        await run(beside.ask, 20.0, 3.0)
        for rate in rates:
            rows.append((rate, CANNED, await run(straight.ask, rate, seconds), 0.0))
            rows.append(await _through(PEER, psutil.Process(pid), beside, rate, seconds))
        straight.close()
        beside.close()
    return rows


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
def _litellm(home: Path, python: str, cores: list[int]) -> Iterator[tuple[int, int, int]]:
    """LiteLLM's proxy on `cores` before a server that answers at once; its process, that server's port and its own."""
    upstream, port = free_port(), free_port()
    config = home / "litellm.yaml"
    config.write_text(
        "model_list:\n- model_name: bench\n  litellm_params:\n"
        f"    model: openai/bench\n    api_base: http://127.0.0.1:{upstream}/v1\n    api_key: nobody\n"
        "general_settings:\n  master_key: sk-bench\n"
    )
    script = str(Path(python).parent / "litellm")
    command = [script, "--config", str(config), "--port", str(port), "--host", "127.0.0.1"]
    environment = {
        **os.environ,
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "NO_PROXY": "127.0.0.1",
    }
    environment.pop("PYTHONPATH", None)
    with (home / "litellm.log").open("ab") as log:
        canned = subprocess.Popen([sys.executable, "-m", "bench.gateway.canned", str(upstream)])
        with on_cores(cores):
            proxy = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield proxy.pid, upstream, port
    finally:
        for process in (proxy, canned):
            process.terminate()
            process.wait(20)


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = [
        "| req/s | road | p50 ms | p99 ms | answered/s | failed | CPU ms a request | generator late, p99 ms |",
        "|-|-|-|-|-|-|-|-|",
    ]
    lines += [
        f"| {rate:g} | {name} | {found.p50:.1f} | {found.p99:.1f} | {found.rate:.0f} | {found.failed} | "
        f"{f'{cpu:.2f}' if cpu else '-'} | {found.late:.1f} |"
        for rate, name, found, cpu in rows
    ]
    for rate in sorted({row[0] for row in rows}):
        at = {name: found for each, name, found, _ in rows if each == rate}
        for name, without in ((OURS, DIRECT), (PEER, CANNED)):
            if name in at:
                p50, p99 = at[name].p50 - at[without].p50, at[name].p99 - at[without].p99
                lines.append(f"\nAdded at {rate:g} req/s by {name}: p50 {p50:.1f} ms, p99 **{p99:.1f} ms**.")
    lines.append(
        f"\nA server that is {MOST_OPEN} requests behind is overloaded: what comes on top is not sent and fails."
    )
    return "\n".join([*lines, "\nBar: p99 at most 5 ms at 500 req/s on one core."])
