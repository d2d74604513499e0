"""The gateway's own cost: an instant engine asked directly and through the gateway, and LiteLLM's proxy beside it."""

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

Row = tuple[str, Latencies, float]


async def measure(home: Path, rate: float, seconds: float, litellm: str) -> list[Row]:
    """Rows of (road, latencies, the proxy's CPU in ms a request); `litellm` is a python that has LiteLLM's proxy."""
    rows: list[Row] = []
    async with stack(home, 1, 0.0) as made:
        opened = grpc.aio.insecure_channel(f"127.0.0.1:{made.engine_port}")
        engine = engine_pb2_grpc.EngineServiceStub(opened)
        asked = engine_pb2.InferRequest(
            messages=[inference_pb2.Message(role="user", content="hello there")], version_digest=VERSIONS[0], whole=True
        )

        async def directly() -> bool:
            return bool([each async for each in engine.Infer(asked)])

        door = Plain(made.doors[0].http_port, "/v1/chat/completions")
        await _until(door.ask)
        await run(door.ask, rate / 5, 3.0)
        rows.append(("engine, directly (gRPC)", await run(directly, rate, seconds), 0.0))
        rows.append(await _through("Pawl gateway (HTTP)", made.doors[0].process.pid, door, rate, seconds))
        await opened.close()
        door.close()
        if litellm:
            with _litellm(home, made.doors[0].http_port, litellm) as (pid, port):
                # Its upstream is our gateway: an OpenAI server at hand, whose own time is in the row above.
                beside = Plain(port, "/v1/chat/completions", model="bench", key="sk-bench")
                await _until(beside.ask)
                rows.append(await _through("LiteLLM, before the gateway", pid, beside, rate, seconds))
                beside.close()
    return rows


async def _through(name: str, pid: int, door: Plain, rate: float, seconds: float) -> Row:
    process = psutil.Process(pid)
    before = sum(process.cpu_times()[:2])
    found = await run(door.ask, rate, seconds)
    return name, found, 1000 * (sum(process.cpu_times()[:2]) - before) / max(1, found.answered + found.failed)


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


def table(rows: list[Row], rate: float) -> str:
    """Markdown."""
    lines = [
        f"| road at {rate:g} req/s | p50 ms | p99 ms | answered/s | failed | CPU ms a request |", "|-|-|-|-|-|-|"
    ]  # fmt: skip
    lines += [
        f"| {name} | {found.p50:.1f} | {found.p99:.1f} | {found.rate:.0f} | {found.failed} | {cpu:.2f} |"
        for name, found, cpu in rows
    ]
    direct, ours = rows[0][1], rows[1][1]
    lines.append(f"\nAdded by the gateway: p50 {ours.p50 - direct.p50:.1f} ms, p99 {ours.p99 - direct.p99:.1f} ms.")
    return "\n".join(lines)
