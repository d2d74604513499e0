"""Latency beside vLLM's own OpenAI server: the same base, adapter and settings, `vllm bench serve` at both, in turn."""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.serving.ground import NO_END, START_SECONDS, Ground, answering, door
from libs.testing.servers import free_port

KINDS = ("e2el", "ttft", "tpot")
SIDES = ("vLLM's server", "gateway")
CPU_FLAGS = ("--max-loras", "6", "--max-cpu-loras", "24", "--enforce-eager", "--kv-cache-memory-bytes", str(512 << 20))
"""As the engine's own settings are."""


async def measure(home: Path, given: argparse.Namespace) -> str:
    """Markdown."""
    ground = await asyncio.to_thread(Ground, home, given.base, max_lora_rank=16)
    try:
        (task,) = await ground.tasks(1, max_tokens=given.tokens)
        port = free_port()
        with (home / "vllm.log").open("ab") as log:
            theirs = vllm_server(ground, task, port, log)
        await ground.up()
        await asyncio.to_thread(reachable, f"http://127.0.0.1:{port}/health", theirs, home / "vllm.log")
        try:
            async with door(ground.gateway.address) as stub:
                await answering(stub, [task])
            ports = dict(zip(SIDES, (port, ground.http_port), strict=True))
            for side in SIDES:
                await asyncio.to_thread(bench_serve, ground, task, ports[side], given, 16)
            found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
            for _ in range(given.rounds):
                for side in SIDES:
                    told = await asyncio.to_thread(bench_serve, ground, task, ports[side], given, int(20 * given.rate))
                    found[side].append(told)
                    print(
                        side, {key: round(told[key], 1) for key in told if key.startswith(("p50", "p99"))}, flush=True
                    )
        finally:
            theirs.terminate()
            theirs.wait(60)
    finally:
        ground.down()
    return table(found, given)


def table(found: dict[str, list[dict[str, Any]]], given: argparse.Namespace) -> str:
    """Markdown of the rounds at each side."""
    lines = [
        f"`vllm bench serve --backend openai-chat` at {given.rate:g} requests a second (Poisson), random prompts of 64 "  # noqa: ISC004
        f"tokens, {given.tokens} tokens of answer, one adapter of rank 16; {given.rounds} rounds at each, in turn, "
        "medians of the rounds. Milliseconds.\n",
        "| what | vLLM's server p50 | gateway p50 | ratio | vLLM's server p99 | gateway p99 | ratio |",
        "|-|-|-|-|-|-|-|",
    ]
    names = {"e2el": "whole answer", "ttft": "first token", "tpot": "per token after it"}
    for kind in KINDS:
        row = [names[kind]]
        for share in ("p50", "p99"):
            theirs, ours = (statistics.median(each[f"{share}_{kind}_ms"] for each in found[side]) for side in SIDES)
            row += [f"{theirs:.1f}", f"{ours:.1f}", f"**{ours / theirs:.3f}**"]
        lines.append("| " + " | ".join(row) + " |")
    done = {side: f"{sum(each['completed'] for each in found[side])}" for side in SIDES}
    failed = {side: f"{sum(each['failed'] for each in found[side])}" for side in SIDES}
    lengths = {
        side: statistics.mean(each["total_output_tokens"] / max(1, each["completed"]) for each in found[side])
        for side in SIDES
    }
    lines.append(
        "\nAnswered (failed), tokens an answer: "
        + ", ".join(f"{side} {done[side]} ({failed[side]}), {lengths[side]:.1f}" for side in SIDES)
        + "."
    )
    paced = "Bar with a paced engine: p50 and p99 lower than vLLM's."
    lines.append(paced if given.paced else "Bar on two cores: p50 at most 1.1 of vLLM's, p99 lower.")
    return "\n".join(lines)


def vllm_server(
    ground: Ground, task: str, port: int, log: Any, flags: Sequence[str] = CPU_FLAGS
) -> "subprocess.Popen[bytes]":
    """VLLM's own server on the same base and adapter, starting."""
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(ground.base)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--enable-lora", "--max-lora-rank", "16"]
    command += ["--max-num-seqs", "64", "--disable-log-stats", *flags]
    command += ["--lora-modules", f"{task}={ground.home / 'adapters' / 'random-0'}"]
    quiet = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    return subprocess.Popen(command, env={**os.environ, **quiet}, stdout=log, stderr=log)


def reachable(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Return once it answers; RuntimeError with its log when it ended or never does."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except (urllib.error.URLError, OSError) as failure:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text(errors="replace")[-3000:]) from failure
            time.sleep(0.3)
        else:
            return


def bench_serve(ground: Ground, task: str, port: int, given: argparse.Namespace, prompts: int) -> dict[str, Any]:
    """What `vllm bench serve` says of a side."""
    result = ground.home / "bench.json"
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", "bench.serving.vllm_cli", "bench", "serve", "--backend", "openai-chat"]
    command += ["--base-url", f"http://127.0.0.1:{port}", "--endpoint", "/v1/chat/completions", "--model", task]
    command += ["--tokenizer", str(ground.base), "--dataset-name", "random", "--random-input-len", "64"]
    command += ["--random-output-len", str(given.tokens), "--num-prompts", str(prompts), "--disable-tqdm"]
    command += ["--request-rate", str(given.rate), "--seed", "1", "--temperature", "0", "--save-result"]
    # Without it each side ends where its own sampling defaults let the model end, and answers differ in length.
    command += ["--extra-body", json.dumps({"logit_bias": {str(token): bias for token, bias in NO_END.items()}})]
    command += ["--result-dir", str(ground.home), "--result-filename", "bench.json"]
    command += ["--percentile-metrics", ",".join(KINDS), "--metric-percentiles", "50,99"]
    quiet = {"OPENAI_API_KEY": "client-key", "HF_HUB_OFFLINE": "1", "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(command, env={**os.environ, **quiet}, capture_output=True, text=True, check=False)
    if done.returncode or not result.exists():
        said = f"{done.stdout[-2000:]}{done.stderr[-3000:]}"
        raise RuntimeError(f"`vllm bench serve` ended with status {done.returncode} and no result: {said!r}")
    told: dict[str, Any] = json.loads(result.read_text())
    told["failed"] = prompts - told["completed"]
    return told
