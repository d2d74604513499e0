"""A version loaded while others decode: the longest gap between two tokens of theirs."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
from tokenizers import Tokenizer

from bench.serving.ground import PROMPT, Answer, Ground, answering, door, percentile, routable, stream
from libs.contracts.inference import Role
from libs.contracts.stubs.pawl.serving.v1 import engine_pb2, engine_pb2_grpc, inference_pb2

STREAMS, LOADS, TOKENS = 8, 20, 400
QUIET_SECONDS = 8.0
Ask = Callable[[int], Awaitable[Answer]]


async def measure(home: Path, given: argparse.Namespace) -> str:  # noqa: ARG001 - the tests' own base, as the bar says
    """Markdown."""
    ground = await asyncio.to_thread(
        Ground, home, None, max_loras=4, max_cpu_loras=8, max_lora_rank=16, retire_after=0, max_num_seqs=64
    )
    rows: list[tuple[str, str, list[float]]] = []
    try:
        serving = await ground.adapter("serving", 1)
        await ground.put_route("users", ground.arm(1, Role.STABLE, serving, 1.0), max_tokens=TOKENS)
        coming = [await ground.adapter(f"coming-{seed}", 100 + seed) for seed in range(2 * LOADS)]
        await ground.up()
        spoken = _spoken(ground.base)
        async with AsyncExitStack() as opened:
            stub = await opened.enter_async_context(door(ground.gateway.address))
            channel = await opened.enter_async_context(grpc.aio.insecure_channel(ground.engine.address))
            engine: Any = engine_pb2_grpc.EngineServiceStub(channel)
            await answering(stub, ["users"])
            doors: dict[str, Ask] = {
                "engine": lambda number: _at_engine(engine, serving, number, spoken),
                "gateway": lambda number: stream(stub, "users", number, TOKENS, bias=spoken),
            }
            for name, ask in doors.items():
                rows.append((name, "nothing loaded", await _gaps(ask, ground, [])))
                half, coming = coming[:LOADS], coming[LOADS:]
                rows.append((name, "loading", await _gaps(ask, ground, half)))
    finally:
        ground.down()
    lines = [
        f"{STREAMS} streams on the tests' base (0.1 M parameters), each as fast as it goes; {LOADS} adapters of rank 8 "  # noqa: ISC004
        "loaded and let go, one after the other. Seen by clients of the engine's gRPC, and of the gateway before it.\n",
        "| door | gaps, ms | p50 | p99 | p99.9 | longest |",
        "|-|-|-|-|-|-|",
    ]
    for name, what, gaps in rows:
        told = " | ".join(f"{percentile(gaps, share):.1f}" for share in (0.5, 0.99, 0.999))
        lines.append(f"| {name} | {what} | {told} | {max(gaps):.1f} |")
    longest = ", ".join(f"{max(gaps):.1f} ms at the {name}" for name, what, gaps in rows if what == "loading")
    return "\n".join([*lines, f"\nLongest gap while loading: **{longest}** (bar: 25 ms)."])


def _spoken(base: Path) -> dict[int, float]:
    """A bias to one letter. Random weights say halves of characters, which wait for the other half: a gap between
    messages would then span several tokens.
    """
    letter = Tokenizer.from_file(str(base / "tokenizer.json")).token_to_id("a")
    assert letter is not None
    return {letter: 100.0}


async def _at_engine(engine: Any, digest: str, number: int, bias: Mapping[int, float]) -> Answer:
    asked = engine_pb2.InferRequest(
        request_id=str(number),
        messages=[inference_pb2.Message(role="user", content=PROMPT.format(number=number))],
        sampling=inference_pb2.Sampling(max_tokens=TOKENS, logit_bias=bias),
        version_digest=digest,
    )
    answer = Answer()
    async for _ in engine.Infer(asked, timeout=300):
        answer.at.append(asyncio.get_running_loop().time())
    return answer


async def _gaps(ask: Ask, ground: Ground, coming: list[str]) -> list[float]:
    ended = asyncio.Event()
    gaps: list[float] = []

    async def user(number: int) -> None:
        turn = 0
        while not ended.is_set():
            turn += 1
            answer = await ask(1000 * number + turn)
            assert not answer.error, answer.error
            gaps.extend(1000 * (b - a) for a, b in zip(answer.at, answer.at[1:], strict=False))

    running = [asyncio.create_task(user(number)) for number in range(STREAMS)]
    await asyncio.sleep(2.0)
    gaps.clear()
    for number, digest in enumerate(coming):
        await ground.put_route("coming", ground.arm(number + 1, Role.STABLE, digest, 1.0))
        await routable(ground, digest)
        await asyncio.sleep(0.3)
    if not coming:
        await asyncio.sleep(QUIET_SECONDS)
    ended.set()
    await asyncio.gather(*running)
    return gaps
