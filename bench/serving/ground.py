"""The stack of serving's tests around a base of choice, with tasks and adapters by number, asked over gRPC."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import grpc

from bench.evaluation.material import copy_base, random_adapter
from libs.contracts.inference import Role
from libs.contracts.stubs.pawl.serving.v1 import engine_pb2, engine_pb2_grpc, inference_pb2, inference_pb2_grpc
from libs.eventing.connection import NatsLink
from libs.testing.wait import eventually
from services.serving import conftest
from services.serving.conftest import Stack

T = TypeVar("T")
METADATA = (("authorization", "Bearer client-key"),)
NO_END = {2: -100.0}
"""A bias against the token that ends an answer, of the bases here: every answer has the length asked for."""
NOTHING: Mapping[int, float] = MappingProxyType({})
PROMPT = "The printer on the second floor shows a red light and nobody can print since this morning. Ticket {number}."
START_SECONDS = 900.0
conftest.START_SECONDS = START_SECONDS


class Ground(Stack):
    """`settings` are those of the engine, by name without its prefix; what the tests make smaller is as shipped."""

    def __init__(self, home: Path, base: Path | None, **settings: object) -> None:
        self._source = base
        self._kept: NatsLink | None = None
        super().__init__(home)
        kept = {k: v for k, v in self.engine.environment.items() if "_MAX_" not in k and not k.endswith("_MIB")}
        given = {f"PAWL_ENGINE_{name.upper()}": str(value) for name, value in settings.items()}
        self.engine.environment = {**kept, **given}

    async def _fill(self) -> None:
        if self._source is not None:
            self.base = copy_base(self._source, self.home / "served-base")
        await super()._fill()

    async def random_adapter(self, seed: int) -> str:
        """An adapter of rank 16 of the base, stored; its digest."""
        place = await asyncio.to_thread(
            random_adapter, self.base, self.home / "adapters" / f"random-{seed}", self.base_digest, seed
        )
        return await self.objects().put_tree(place, kind="adapter")

    async def tasks(self, number: int, max_tokens: int = 256) -> list[str]:
        """So many tasks with an adapter each."""
        names = [f"task-{each}" for each in range(number)]
        for seed, name in enumerate(names):
            arm = self.arm(1, Role.STABLE, await self.random_adapter(seed), 1.0)
            await self.put_route(name, arm, max_tokens=max_tokens)
        return names

    async def linked(self, work: Callable[[NatsLink], Awaitable[T]]) -> T:
        """As the tests', over a connection that is kept once everything is up: connecting takes longer than a swap."""
        return await (work(self._kept) if self._kept is not None else super().linked(work))

    async def up(self) -> None:
        """Engine and gateway started and ready."""
        self.engine.start()
        self.gateway.start()
        await asyncio.to_thread(self.gateway.wait_ready)
        await asyncio.to_thread(self.engine.wait_ready)
        self._kept = NatsLink(self.nats.url, "bench", on_closed=lambda: None)
        await self._kept.connect(wait=True)
        gc.freeze()  # or this process's collector would be measured as a gap between tokens

    def down(self) -> None:
        """End everything, however it is."""
        for service in (self.gateway, self.engine):
            service.stop()
        self.nats.stop()
        self.s3.stop()


@dataclass
class Answer:
    """One answer as a client saw it; `at` are the times of its messages."""

    model: str = ""
    adapters: set[str] = field(default_factory=set)
    text: str = ""
    tokens: int = 0
    began: float = 0.0
    at: list[float] = field(default_factory=list)
    error: str = ""


@asynccontextmanager
async def door(address: str) -> AsyncIterator[Any]:
    """A stub of the gateway."""
    async with grpc.aio.insecure_channel(address) as channel:
        yield inference_pb2_grpc.InferenceServiceStub(channel)


async def stream(
    stub: Any,
    model: str,
    number: int,
    tokens: int,
    *,
    user: str = "",
    timeout: float = 300.0,
    bias: Mapping[int, float] = NOTHING,
) -> Answer:
    """One answer, streamed; with NO_END for its `bias` it has all the tokens asked for."""
    asked = inference_pb2.GenerateRequest(
        model=model,
        messages=[inference_pb2.Message(role="user", content=PROMPT.format(number=number))],
        sampling=inference_pb2.Sampling(max_tokens=tokens, logit_bias=bias),
        user=user,
    )
    answer = Answer(began=time.perf_counter())
    call = stub.GenerateStream(
        inference_pb2.GenerateStreamRequest(request=asked), metadata=METADATA, timeout=timeout
    )  # fmt: skip
    try:
        async for each in call:
            answer.at.append(time.perf_counter())
            answer.text += each.text_delta
            answer.model = each.provenance.model_version
            answer.adapters.add(each.provenance.adapter_digest)
            answer.tokens = each.usage.completion_tokens or answer.tokens
    except grpc.aio.AioRpcError as failure:
        answer.error = failure.code().name
    return answer


async def routable(ground: Ground, *digests: str) -> None:
    """Wait until the engine says that it can be asked for these."""
    async with grpc.aio.insecure_channel(ground.engine.address) as channel:
        stub: Any = engine_pb2_grpc.EngineServiceStub(channel)

        async def there() -> bool:
            return set(digests) <= set((await stub.GetEngine(engine_pb2.GetEngineRequest())).routable)

        await eventually(there, 60, every=0.02)


async def answering(stub: Any, models: list[str]) -> None:
    """Wait until every one of them answers."""
    for model in models:

        async def answers(model: str = model) -> bool:
            return not (await stream(stub, model, 0, 2)).error

        await eventually(answers, 300, every=0.1)


def percentile(values: list[float], share: float) -> float:
    """Of a list that is not empty."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
