"""How long after the command to roll back every gateway answers with the other version, under streams; none may mix."""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from bench.gateway.stack import KEY, TASK, stack
from libs.contracts.stubs.pawl.registry.v1.registry_pb2 import RollBackRequest
from libs.contracts.stubs.pawl.registry.v1.registry_pb2_grpc import RegistryServiceStub
from libs.contracts.stubs.pawl.serving.v1 import inference_pb2, inference_pb2_grpc

METADATA = (("authorization", f"Bearer {KEY}"),)


@dataclass
class Outcome:
    """Times in ms of switches (one of each gateway and rollback) and of the registry's answers; counts of streams."""

    switched: list[float] = field(default_factory=list)
    told: list[float] = field(default_factory=list)
    failed: int = 0
    mixed: int = 0
    whole: int = 0


async def measure(home: Path, gateways: int, streams: int, tasks: int) -> Outcome:
    """`streams` at any moment over all gateways and tasks, 40 tokens each at 25 ms; the tasks are rolled back in turn.

    A time begins before the registry is told and ends when a gateway, asked over and over, explains the new route.
    """
    outcome = Outcome()
    names = [f"{TASK}-{number}" for number in range(tasks)]
    async with stack(home, gateways, 0.025, names) as made:
        channels = [grpc.aio.insecure_channel(f"127.0.0.1:{door.grpc_port}") for door in made.doors]
        stubs: list[Any] = [inference_pb2_grpc.InferenceServiceStub(each) for each in channels]
        await asyncio.gather(*(_switched(stub, name, 2) for stub in stubs for name in names))
        ended = asyncio.Event()
        running = [
            asyncio.create_task(_stream(stubs[number % gateways], names[number % tasks], ended, outcome))
            for number in range(streams)
        ]
        await asyncio.sleep(2.0)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{made.registry_port}") as opened:
            registry = RegistryServiceStub(opened)
            for name in names:
                began = time.perf_counter()
                waiting = [asyncio.create_task(_switched(stub, name, 1)) for stub in stubs]
                await registry.RollBack(RollBackRequest(task=name, by="bench", reason="measured"))
                outcome.told.append(1000 * (time.perf_counter() - began))
                outcome.switched += [1000 * (at - began) for at in await asyncio.gather(*waiting)]
                await asyncio.sleep(0.3)
        ended.set()
        await asyncio.gather(*running)
        for each in channels:
            await each.close()
    return outcome


async def _switched(stub: Any, task: str, version: int) -> float:
    while True:
        try:
            told = await stub.ExplainRoute(inference_pb2.ExplainRouteRequest(model=task), metadata=METADATA)
            if told.model_version == f"{task}@{version}":
                return time.perf_counter()
        except grpc.aio.AioRpcError as failure:
            if failure.code() not in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE):
                raise
        await asyncio.sleep(0.005)


async def _stream(stub: Any, task: str, ended: asyncio.Event, outcome: Outcome) -> None:
    asked = inference_pb2.GenerateStreamRequest(
        request=inference_pb2.GenerateRequest(
            model=task,
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
    times, told = sorted(outcome.switched), sorted(outcome.told)
    p99 = times[min(len(times) - 1, int(len(times) * 0.99))]
    return (
        f"| {gateways} gateways, {streams} streams | value |\n|-|-|\n"
        f"| rollbacks, each seen by every gateway | {len(told)} |\n"
        f"| the registry's answer, p50 | {told[len(told) // 2]:.0f} ms |\n"
        f"| from the command to the switch, p50 | {times[len(times) // 2]:.0f} ms |\n| p99 | **{p99:.0f} ms** |\n"
        f"| streams whole | {outcome.whole} |\n| streams failed | {outcome.failed} |\n"
        f"| streams of two versions | {outcome.mixed} |"
    )
