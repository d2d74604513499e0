"""A thousand swaps of the version behind a task: the same prompt never gets a token of a version that is gone."""

import argparse
import asyncio
import time
from pathlib import Path

from bench.serving.ground import Ground, answering, door, stream
from libs.contracts.inference import Role

VERSIONS = 6


async def measure(home: Path, given: argparse.Namespace) -> str:
    """Markdown."""
    ground = await asyncio.to_thread(
        Ground, home, None, max_loras=3, max_cpu_loras=4, max_lora_rank=16, retire_after=0, kv_cache_mib=64
    )
    wrong = mixed = refused = 0
    truth: dict[str, str] = {}
    try:
        digests = [await ground.adapter(f"swap-{seed}", 200 + seed) for seed in range(VERSIONS)]
        await ground.put_route("swapped", ground.arm(1, Role.STABLE, digests[0], 1.0), max_tokens=16)
        await ground.up()
        async with door(ground.gateway.address) as stub:
            await answering(stub, ["swapped"])
            began = time.perf_counter()
            for turn in range(given.swaps):
                digest = digests[(turn + 1 + turn // VERSIONS) % VERSIONS]
                version = turn + 2
                await ground.put_route("swapped", ground.arm(version, Role.STABLE, digest, 1.0), max_tokens=16)
                while True:
                    answer = await stream(stub, "swapped", 7, 12)
                    refused += bool(answer.error)
                    if answer.model == f"swapped@{version}" and not answer.error:
                        break
                mixed += answer.adapters != {digest}
                wrong += truth.setdefault(digest, answer.text) != answer.text
                if turn % 100 == 99:
                    print(turn + 1, f"{time.perf_counter() - began:.0f} s", wrong, mixed, refused, flush=True)
            seconds = time.perf_counter() - began
    finally:
        ground.down()
    told = len(set(truth.values()))
    return (
        f"{given.swaps} swaps between {VERSIONS} adapters over one name, the same prompt after each, on the tests' "
        f"base; an adapter that leaves is unloaded, and loaded anew when it comes back ({seconds:.0f} s).\n\n"
        "| what | count |\n|-|-|\n"
        f"| different answers of the {VERSIONS} versions | {told} |\n"
        f"| answers that differ from their version's first | {wrong} |\n"
        f"| answers proven by another version's digest | {mixed} |\n"
        f"| requests that failed | {refused} |"
    )
