"""How long after the route is written every gateway answers with the other version, under streams; none may mix."""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from bench.gateway.stack import KEY, TASK, Stack, stack
from libs.contracts.stubs.pawl.serving.v1 import inference_pb2, inference_pb2_grpc

METADATA = (("authorization", f"Bearer {KEY}"),)


@dataclass
class Outcome:
    """Switch times in ms, one of each gateway and flip; streams that failed, mixed versions or went well."""

    switched: list[float] = field(default_factory=list)
    failed: int = 0
    mixed: int = 0
    whole: int = 0


async def measure(home: Path, gateways: int, streams: int, flips: int) -> Outcome:
    """`streams` at any moment over all gateways, 40 tokens each at 25 ms, while the route flips back and forth."""
    outcome = Outcome()
    async with stack(home, gateways, 0.025) as made:
        channels = [grpc.aio.insecure_channel(f"127.0.0.1:{door.grpc_port}") for door in made.doors]
        stubs: list[Any] = [inference_pb2_grpc.InferenceServiceStub(each) for each in channels]
        for stub in stubs:
            await _switched(stub, made.generation)
        ended = asyncio.Event()
        running = [
            asyncio.create_task(_stream(stubs[number % gateways], ended, outcome)) for number in range(streams)
        ]  # fmt: skip
        await asyncio.sleep(2.0)
        for number in range(flips):
            await _flip(made, stubs, 2 - number % 2, outcome)
            await asyncio.sleep(0.3)
        ended.set()
        await asyncio.gather(*running)
        for each in channels:
            await each.close()
    return outcome


async def _flip(made: Stack, stubs: list[Any], version: int, outcome: Outcome) -> None:
    began = time.perf_counter()
    waiting = [asyncio.create_task(_switched(stub, made.generation + 1)) for stub in stubs]
    await made.flip(version)
    outcome.switched += [1000 * (at - began) for at in await asyncio.gather(*waiting)]


async def _switched(stub: Any, generation: int) -> float:
    while True:
        try:
            told = await stub.ExplainRoute(inference_pb2.ExplainRouteRequest(model=TASK), metadata=METADATA)
            if told.route_generation >= generation:
                return time.perf_counter()
        except grpc.aio.AioRpcError as failure:
            if failure.code() not in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE):
                raise
        await asyncio.sleep(0.005)


async def _stream(stub: Any, ended: asyncio.Event, outcome: Outcome) -> None:
    asked = inference_pb2.GenerateStreamRequest(
        request=inference_pb2.GenerateRequest(
            model=TASK,
            messages=[inference_pb2.Message(role="user", content="hello")],
            sampling=inference_pb2.Sampling(max_tokens=40),
        )
    )
    while not ended.is_set():
        seen = set()
        try:
            async for each in stub.GenerateStream(asked, metadata=METADATA, timeout=120):
                seen.add((each.provenance.model_version, each.provenance.adapter_digest))
        except grpc.aio.AioRpcError:
            outcome.failed += 1
            continue
        outcome.whole += len(seen) == 1
        outcome.mixed += len(seen) > 1


def table(outcome: Outcome, gateways: int, streams: int) -> str:
    """Markdown."""
    times = sorted(outcome.switched)
    p99 = times[min(len(times) - 1, int(len(times) * 0.99))]
    return (
        f"| {gateways} gateways, {streams} streams | value |\n|-|-|\n"
        f"| flips seen (each gateway once) | {len(times)} |\n"
        f"| switch p50 | {times[len(times) // 2]:.0f} ms |\n| switch p99 | {p99:.0f} ms |\n"
        f"| streams whole | {outcome.whole} |\n| streams failed | {outcome.failed} |\n"
        f"| streams of two versions | {outcome.mixed} |"
    )
