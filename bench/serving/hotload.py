"""A version loaded while others decode: the longest gap between two tokens of theirs."""

import argparse
import asyncio
from pathlib import Path

from bench.serving.ground import Ground, answering, door, percentile, routable, stream
from libs.contracts.inference import Role

STREAMS, LOADS = 8, 20


async def measure(home: Path, given: argparse.Namespace) -> str:  # noqa: ARG001 - the tests' own base, as the bar says
    """Markdown."""
    ground = await asyncio.to_thread(
        Ground, home, None, max_loras=4, max_cpu_loras=8, max_lora_rank=16, retire_after=0, max_num_seqs=64
    )
    try:
        serving = await ground.adapter("serving", 1)
        await ground.put_route("users", ground.arm(1, Role.STABLE, serving, 1.0), max_tokens=400)
        coming = [await ground.adapter(f"coming-{seed}", 100 + seed) for seed in range(LOADS)]
        await ground.up()
        async with door(ground.gateway.address) as stub:
            await answering(stub, ["users"])
            before = await _gaps(stub, ground, [])
            during = await _gaps(stub, ground, coming)
    finally:
        ground.down()
    lines = [
        f"{STREAMS} streams on the tests' base (0.1 M parameters), gaps as a client of the gateway sees them; "  # noqa: ISC004
        f"{LOADS} adapters of rank 8 loaded and let go, one after the other.\n",
        "| gaps, ms | p50 | p99 | longest |",
        "|-|-|-|-|",
    ]
    for name, gaps in (("nothing loaded", before), ("loading", during)):
        lines.append(f"| {name} | {percentile(gaps, 0.5):.1f} | {percentile(gaps, 0.99):.1f} | {max(gaps):.1f} |")
    return "\n".join([*lines, f"\nLongest gap while loading: **{max(during):.1f} ms** (bar: 25 ms)."])


async def _gaps(stub: object, ground: Ground, coming: list[str]) -> list[float]:
    ended = asyncio.Event()
    gaps: list[float] = []

    async def user(number: int) -> None:
        turn = 0
        while not ended.is_set():
            turn += 1
            answer = await stream(stub, "users", 1000 * number + turn, 400)
            assert not answer.error, answer.error
            gaps.extend(1000 * (b - a) for a, b in zip(answer.at, answer.at[1:], strict=False))

    running = [asyncio.create_task(user(number)) for number in range(STREAMS)]
    await asyncio.sleep(2.0)
    gaps.clear()
    if coming:
        for number, digest in enumerate(coming):
            await ground.put_route("coming", ground.arm(number + 1, Role.STABLE, digest, 1.0))
            await routable(ground, digest)
            await asyncio.sleep(0.3)
    else:
        await asyncio.sleep(8.0)
    ended.set()
    await asyncio.gather(*running)
    return gaps
