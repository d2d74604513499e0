"""Ten thousand odd requests over HTTP and as many over gRPC: `python -m bench serving_fuzz [--cases 10000]`.

A real gateway before a real engine. None may be answered with a fault of ours (5xx beside 503, INTERNAL, UNKNOWN), and
neither process may die; memory is told before and after. `--schemathesis PROGRAM` adds that fuzzer's own run over
`/openapi.json`: `python -m venv V && V/bin/pip install schemathesis`, then `--schemathesis V/bin/schemathesis`.
"""

import argparse
import asyncio
import collections
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc
import httpx
import psutil

from libs.contracts.inference import Role
from services.serving.conftest import Service, Stack
from services.serving.gateway.tests.fuzz import calls, cases
from services.serving.gateway.tests.test_fuzz import called
from services.serving.gateway.tests.test_gateway import CLIENT, served

RESULTS = Path(__file__).parent / "results" / "serving_fuzz.md"
TASK = "fuzz"
AT_ONCE = 32
_OPERATIONS = 7
"""In the document."""
Counts = collections.Counter[str]


def resident_mib(service: Service) -> float:
    """Memory of a service and its children."""
    assert service.process is not None
    whole = psutil.Process(service.process.pid)
    return sum(each.memory_info().rss for each in (whole, *whole.children(recursive=True))) / 2**20


async def http_storm(stack: Stack, seed: int, number: int) -> Counts:
    """Statuses by number; a fault is printed with its request."""
    gate, statuses = asyncio.Semaphore(AT_ONCE), Counts()
    async with httpx.AsyncClient(base_url=stack.http, headers=CLIENT, timeout=300) as http:

        async def one(method: str, path: str, body: bytes, headers: dict[str, str]) -> None:
            async with gate:
                answer = await http.request(method, path, content=body, headers=headers)
                fault = answer.status_code >= 500 and answer.status_code != 503
                statuses["fault" if fault else str(answer.status_code)] += 1
                if fault:
                    print(f"{method} {path} {body!r}: {answer.status_code} {answer.text[:200]}")

        for start in range(0, number, 500):
            batch = cases(seed + start, min(500, number - start), TASK)
            await asyncio.gather(*(one(*case) for case in batch))
    return statuses


async def grpc_storm(stack: Stack, seed: int, number: int) -> Counts:
    """Codes by name; a fault is printed with its request."""
    gate, codes = asyncio.Semaphore(AT_ONCE), Counts()
    async with grpc.aio.insecure_channel(stack.gateway.address) as opened:

        async def one(service: str, method: str, request: object) -> None:
            async with gate:
                code, told = await called(opened, service, method, request)  # type: ignore[arg-type]
                fault = code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
                codes["fault" if fault else code.name] += 1
                if fault:
                    print(f"{method} {request}: {told}")

        for start in range(0, number, 500):
            batch = calls(seed + start, min(500, number - start), TASK)
            await asyncio.gather(*(one(*case) for case in batch))
    return codes


def schemathesis(program: str, stack: Stack, number: int) -> str:
    """What that fuzzer says of the whole document: no 5xx. Some requests name the task, or none would be answered."""
    document = httpx.get(f"{stack.http}/openapi.json", timeout=60).json()
    for schema in document["components"]["schemas"].values():
        if "model" in schema.get("properties", {}):
            schema["properties"]["model"] = {"anyOf": [{"const": TASK}, schema["properties"]["model"]]}
    place = stack.home / "openapi.json"
    place.write_text(json.dumps(document))
    command = [str(Path(program).absolute()), "run", str(place), "--url", stack.http, "--no-color"]
    command += [
        "--checks",
        "not_a_server_error",
        "--max-examples",
        str(max(10, number // _OPERATIONS)),
        "--phases",
        "coverage,fuzzing",
    ]
    command += ["--header", f"Authorization: {CLIENT['authorization']}"]
    done = subprocess.run(command, cwd=stack.home, capture_output=True, text=True, check=False)
    print(done.stdout[-3000:], done.stderr[-2000:])
    found = re.search(r"\d+ generated.*", done.stdout)
    return f"exit status {done.returncode}; {found[0] if found else 'see its output'}"


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--schemathesis", default="", help="path of that program")
    asked = parser.parse_args()
    lines = ["| what | value |", "|-|-|"]
    faults = 0
    with tempfile.TemporaryDirectory() as home:
        stack = await asyncio.to_thread(Stack, Path(home))
        try:
            stack.engine.start()
            stack.gateway.start()
            await asyncio.to_thread(stack.engine.wait_ready)
            await asyncio.to_thread(stack.gateway.wait_ready)
            await stack.put_route(TASK, stack.arm(0, Role.STABLE, "", 1.0), max_tokens=2)
            await served(stack, TASK)
            # Caches fill and pools grow at first: memory is told from there on.
            await http_storm(stack, 0, min(1500, asked.cases))
            await grpc_storm(stack, 0, min(1500, asked.cases))
            before = resident_mib(stack.gateway), resident_mib(stack.engine)
            for name, storm in (("HTTP", http_storm), ("gRPC", grpc_storm)):
                began = time.monotonic()
                told = await storm(stack, asked.seed * 1_000_000, asked.cases)
                faults += told["fault"]
                answers = ", ".join(f"{key} {count}" for key, count in sorted(told.items()) if key != "fault")
                seconds = time.monotonic() - began
                lines.append(f"| {name}: {asked.cases} cases in {seconds:.0f} s | {answers} |")
                lines.append(f"| {name}: faults | **{told['fault']}** |")
            if asked.schemathesis:
                told = await asyncio.to_thread(schemathesis, asked.schemathesis, stack, asked.cases)
                lines.append(f"| schemathesis over the whole document | {told} |")
            after = resident_mib(stack.gateway), resident_mib(stack.engine)
            alive = stack.gateway.ready() and stack.engine.ready()
        finally:
            stack.close()
    lines += [
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
