"""Ten thousand odd requests to a real gateway before a real engine: `python -m bench serving_fuzz [--cases 10000]`.

None may be answered with a fault of ours (5xx beside 503), neither process may die; memory is told before and after.
"""

import argparse
import asyncio
import collections
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from libs.contracts.inference import Role
from services.serving.conftest import Service, Stack
from services.serving.gateway.tests.fuzz import cases
from services.serving.gateway.tests.test_gateway import CLIENT, served

RESULTS = Path(__file__).parent / "results" / "serving_fuzz.md"
TASK = "fuzz"


def resident_mib(service: Service) -> float:
    """Memory of a service and its children."""
    assert service.process is not None
    whole = psutil.Process(service.process.pid)
    return sum(each.memory_info().rss for each in (whole, *whole.children(recursive=True))) / 2**20


async def storm(stack: Stack, seed: int, number: int) -> collections.Counter[int]:
    """Statuses by number; a fault is printed with its request."""
    gate, statuses = asyncio.Semaphore(32), collections.Counter[int]()
    async with httpx.AsyncClient(base_url=stack.http, headers=CLIENT, timeout=300) as http:

        async def one(method: str, path: str, body: bytes, headers: dict[str, str]) -> None:
            async with gate:
                answer = await http.request(method, path, content=body, headers=headers)
                statuses[answer.status_code] += 1
                if answer.status_code >= 500 and answer.status_code != 503:
                    print(f"{method} {path} {body!r}: {answer.text[:200]}")

        for start in range(0, number, 500):
            batch = cases(seed + start, min(500, number - start), TASK)
            await asyncio.gather(*(one(*case) for case in batch))
    return statuses


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        stack = await asyncio.to_thread(Stack, Path(home))
        try:
            stack.engine.start()
            stack.gateway.start()
            await asyncio.to_thread(stack.engine.wait_ready)
            await asyncio.to_thread(stack.gateway.wait_ready)
            await stack.put_route(TASK, stack.arm(0, Role.STABLE, "", 1.0), max_tokens=2)
            await served(stack, TASK)
            await storm(stack, 0, min(500, asked.cases))
            before = resident_mib(stack.gateway), resident_mib(stack.engine)
            began = time.monotonic()
            statuses = await storm(stack, asked.seed * 1_000_000, asked.cases)
            seconds = time.monotonic() - began
            after = resident_mib(stack.gateway), resident_mib(stack.engine)
            alive = stack.gateway.ready() and stack.engine.ready()
        finally:
            stack.close()
    faults = sum(count for status, count in statuses.items() if status >= 500 and status != 503)
    lines = [
        f"| {asked.cases} cases in {seconds:.0f} s | value |",
        "|-|-|",
        *(f"| answered {status} | {count} |" for status, count in sorted(statuses.items())),
        f"| faults | {faults} |",
        f"| both alive | {alive} |",
        f"| gateway memory | {before[0]:.0f} -> {after[0]:.0f} MiB |",
        f"| engine memory | {before[1]:.0f} -> {after[1]:.0f} MiB |",
    ]
    print("\n".join(lines))
    command = " ".join(["python -m bench.serving_fuzz", *sys.argv[1:]])
    RESULTS.write_text(f"# Fuzz of the gateway\n\n`{command}`\n\n" + "\n".join(lines) + "\n")
    return int(bool(faults) or not alive)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
