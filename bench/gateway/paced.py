"""A process that is an engine to gateways and keeps a given pace: `python -m bench.gateway.paced`."""

import asyncio
import gc
import os
import signal
from datetime import UTC, datetime
from typing import Any

import uvloop

from libs.contracts.routes import EngineReport
from libs.contracts.stubs.pawl.serving.v1 import engine_pb2, engine_pb2_grpc
from libs.contracts.subjects import ENGINES
from libs.eventing.connection import NatsLink
from libs.eventing.kv import kv_put
from libs.runtime.grpc_server import GrpcServer

BASE = "sha256:" + "b" * 64
VERSIONS = tuple("sha256:" + str(number) * 64 for number in (1, 2))


class Paced(engine_pb2_grpc.EngineServiceServicer):
    """Sends `max_tokens` tokens, one each `seconds`; with 0 seconds, the whole answer at once."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def Infer(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002 - named by the protocol
        """One answer at the pace."""
        adapter = "" if request.version_digest == BASE else request.version_digest
        tokens = request.sampling.max_tokens if self._seconds else 1
        for number in range(tokens):
            if self._seconds:
                await asyncio.sleep(self._seconds)
            last = number == tokens - 1
            message = engine_pb2.InferResponse(
                text_delta="ok ", base_digest=BASE, adapter_digest=adapter, finish_reason="stop" if last else ""
            )
            if last:
                message.usage.prompt_tokens, message.usage.completion_tokens = 8, tokens
            yield message


async def main() -> None:
    link = NatsLink(os.environ["PAWL_NATS_URL"], "paced", on_closed=lambda: None)
    await link.connect(wait=True)
    server = GrpcServer("127.0.0.1", int(os.environ["PACED_PORT"]))
    engine = Paced(float(os.environ["PACED_SECONDS"]))
    server.add(engine_pb2_grpc.add_EngineServiceServicer_to_server, engine, "pawl.serving.v1.EngineService")
    await server.start()
    gc.freeze()  # what stays is not walked over again and again: a pause here would look like one of the gateway's
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    while not stop.is_set():
        now = datetime.now(UTC)
        report = EngineReport(
            engine_id="paced", address=server.address, base_digest=BASE, routable=(BASE, *VERSIONS),
            max_adapters=8, max_model_len=4096, started_at=now, beat_at=now,
        )  # fmt: skip
        await kv_put(link, ENGINES, "paced", report)
        try:
            async with asyncio.timeout(3.0):
                await stop.wait()
        except TimeoutError:
            continue
    await server.stop(0.1)
    await link.close()


if __name__ == "__main__":
    uvloop.run(main())
