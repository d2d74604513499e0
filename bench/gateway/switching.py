"""How long after the command to roll back every gateway answers with the other version, under streams; none may mix."""

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil

from bench.gateway.stack import TASK, stack
from bench.gateway.streams import METADATA
from libs.contracts.stubs.pawl.registry.v1.registry_pb2 import RollBackRequest
from libs.contracts.stubs.pawl.registry.v1.registry_pb2_grpc import RegistryServiceStub
from libs.contracts.stubs.pawl.serving.v1 import inference_pb2, inference_pb2_grpc

_STREAM_SECONDS = 8.0


@dataclass
class Outcome:
    """Times in ms of switches (one of each gateway and rollback) and of the registry's answers; counts of streams.

    `pace` is what lies between two tokens, in seconds; `busy` the share of all cores that was at work meanwhile.
    """

    pace: float
    switched: list[float] = field(default_factory=list)
    told: list[float] = field(default_factory=list)
    failed: int = 0
    mixed: int = 0
    whole: int = 0
    busy: float = 0.0


async def measure(home: Path, gateways: int, streams: int, tasks: int, pace: float) -> Outcome:
    """`streams` at any moment over all gateways and tasks, eight seconds each; the tasks are rolled back in turn.

    A time begins before the registry is told and ends when a gateway, asked over and over, explains the new route.
    """
    outcome = Outcome(pace)
    names = [f"{TASK}-{number}" for number in range(tasks)]
    async with stack(home, gateways, pace, names) as made:
        channels = [grpc.aio.insecure_channel(f"127.0.0.1:{door.grpc_port}") for door in made.doors]
        stubs: list[Any] = [inference_pb2_grpc.InferenceServiceStub(each) for each in channels]
        await asyncio.gather(*(_switched(stub, name, 2) for stub in stubs for name in names))
        users = _users([door.grpc_port for door in made.doors], names, streams, pace)
        try:
            await asyncio.sleep(2 * _STREAM_SECONDS)
            psutil.cpu_percent()
            await _roll_back(made.registry_port, names, stubs, outcome)
            outcome.busy = psutil.cpu_percent() / 100
            said, _ = await asyncio.to_thread(users.communicate, b"", 120)
        finally:
            users.kill()
            users.wait(20)
        for name, number in json.loads(said).items():
            setattr(outcome, name, number)
        for each in channels:
            await each.close()
    return outcome


def _users(ports: list[int], tasks: list[str], streams: int, pace: float) -> "subprocess.Popen[bytes]":
    load = ["--streams", str(streams), "--tokens", str(round(_STREAM_SECONDS / pace)), "--over", str(_STREAM_SECONDS)]
    load += ["--tasks", *tasks]
    command = [sys.executable, "-m", "bench.gateway.streams", "--ports", *map(str, ports), *load]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


async def _roll_back(port: int, names: list[str], stubs: list[Any], outcome: Outcome) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        registry = RegistryServiceStub(opened)
        await opened.channel_ready()
        for name in names:
            began = time.perf_counter()
            waiting = [asyncio.create_task(_switched(stub, name, 1)) for stub in stubs]
            await registry.RollBack(RollBackRequest(task=name, by="bench", reason="measured"))
            outcome.told.append(1000 * (time.perf_counter() - began))
            outcome.switched += [1000 * (at - began) for at in await asyncio.gather(*waiting)]
            await asyncio.sleep(0.3)


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


def table(outcomes: list[Outcome], gateways: int, streams: int) -> str:
    """Markdown."""
    rows = [
        ("cores busy", [f"{each.busy:.0%}" for each in outcomes]),
        ("rollbacks, each seen by every gateway", [str(len(each.told)) for each in outcomes]),
        ("the registry's answer, p50", [f"{_quantile(each.told, 0.5):.0f} ms" for each in outcomes]),
        ("from the command to the switch, p50", [f"{_quantile(each.switched, 0.5):.0f} ms" for each in outcomes]),
        ("p99", [f"**{_quantile(each.switched, 0.99):.0f} ms**" for each in outcomes]),
        ("streams whole", [str(each.whole) for each in outcomes]),
        ("streams failed", [str(each.failed) for each in outcomes]),
        ("streams of two versions", [str(each.mixed) for each in outcomes]),
    ]
    paces = " | ".join(f"a token each {1000 * each.pace:.0f} ms" for each in outcomes)
    head = f"| {gateways} gateways, {streams} streams | {paces} |\n|{'-|' * (1 + len(outcomes))}\n"
    body = "\n".join(f"| {name} | {' | '.join(values)} |" for name, values in rows)
    return f"{head}{body}\n\nBars: p99 at most 50 ms with an engine that leaves the cores time, 500 ms on busy ones."


def _quantile(values: list[float], share: float) -> float:
    held = sorted(values)
    return held[min(len(held) - 1, int(len(held) * share))]
