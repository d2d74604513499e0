"""An engine that keeps a given pace: what the road to it costs, without the noise of a model."""

import asyncio
import math
from datetime import UTC, datetime
from typing import Any

from libs.contracts.routes import EngineReport
from libs.contracts.stubs.pawl.serving.v1 import engine_pb2, engine_pb2_grpc
from libs.contracts.subjects import ENGINES
from libs.eventing.connection import NatsLink
from libs.eventing.kv import kv_put
from libs.runtime.grpc_server import GrpcServer

SLOTS = 64


class PacedEngine(engine_pb2_grpc.EngineServiceServicer):
    """Answers `SLOTS` requests at a time, each in `seconds`."""

    def __init__(self, base_digest: str, seconds: float) -> None:
        self._base = base_digest
        self._seconds = seconds
        self._slots = asyncio.Semaphore(SLOTS)

    async def Infer(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002 - named by the protocol
        """One answer, whole."""
        async with self._slots:
            await asyncio.sleep(self._seconds)
        adapter = "" if request.version_digest == self._base else request.version_digest
        message = engine_pb2.InferResponse(
            text_delta="ok", finish_reason="stop", base_digest=self._base, adapter_digest=adapter
        )
        message.usage.prompt_tokens, message.usage.completion_tokens = 50, 20
        yield message

    def least(self, answers: int) -> float:
        """Seconds that so many answers take at the least, handed in all at once."""
        return math.ceil(answers / SLOTS) * self._seconds


async def serve(engine: PacedEngine, base_digest: str, versions: tuple[str, ...], link: NatsLink) -> asyncio.Task[None]:
    """Serve the engine and report it to gateways; cancel the task to end both."""
    server = GrpcServer("127.0.0.1", 0)
    server.add(engine_pb2_grpc.add_EngineServiceServicer_to_server, engine, "pawl.serving.v1.EngineService")
    await server.start()

    async def beat() -> None:
        try:
            while True:
                now = datetime.now(UTC)
                report = EngineReport(
                    engine_id="paced", address=server.address, base_digest=base_digest, routable=versions,
                    max_adapters=8, max_model_len=512, started_at=now, beat_at=now,
                )  # fmt: skip
                await kv_put(link, ENGINES, "paced", report)
                await asyncio.sleep(3.0)
        finally:
            await kv_put(link, ENGINES, "paced", None)
            await server.stop(0.1)

    return asyncio.create_task(beat())
