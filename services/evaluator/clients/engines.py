"""Engines, asked past the gateway for what no user needs: token ids and their log-probabilities, by digest."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from libs.contracts.errors import Unavailable
from libs.contracts.parity import Said
from libs.contracts.routes import EngineReport
from libs.contracts.stubs.pawl.serving.v1 import engine_pb2, engine_pb2_grpc, inference_pb2
from libs.contracts.subjects import ENGINES
from libs.eventing.connection import NatsLink
from libs.eventing.kv import DesiredState
from libs.runtime.grpc_client import channel, rpc_errors

_SECONDS = 120.0
_BEAT_SECONDS = 30.0
_YIELDING = 2
"""Priority of what nobody waits for."""


class Engines:
    """The engines that report to the bucket."""

    def __init__(self, link: NatsLink) -> None:
        self._reports: DesiredState[EngineReport] = DesiredState(link, ENGINES, EngineReport)

    async def start(self) -> None:
        """Begin to watch."""
        await self._reports.start()

    async def synced(self) -> None:
        """Return when the bucket has been read at least once."""
        await self._reports.synced.wait()

    async def stop(self) -> None:
        """End the watch."""
        await self._reports.stop()

    async def answers(self, digest: str, prompts: Sequence[Sequence[Mapping[str, str]]], max_tokens: int) -> list[Said]:
        """Greedy answers of a version to the prompts, in order. Raises Unavailable while no engine serves it."""
        now = datetime.now(UTC)
        held = [
            report
            for report in self._reports.values.values()
            if digest in (report.base_digest, *report.routable)
            and (now - report.beat_at).total_seconds() < _BEAT_SECONDS
        ]
        if not held:
            raise Unavailable(f"no engine serves {digest} now", reason="NOT_ROUTABLE")
        opened = channel(held[0].address)
        try:
            stub = engine_pb2_grpc.EngineServiceStub(opened)
            return [await _said(stub, digest, prompt, max_tokens, f"parity-{at}") for at, prompt in enumerate(prompts)]
        finally:
            await opened.close()


async def _said(
    stub: engine_pb2_grpc.EngineServiceStub,
    digest: str,
    prompt: Sequence[Mapping[str, str]],
    max_tokens: int,
    name: str,
) -> Said:
    request = engine_pb2.InferRequest(
        request_id=f"{name}-{digest[-12:]}",
        messages=[inference_pb2.Message(role=each["role"], content=each["content"]) for each in prompt],
        sampling=inference_pb2.Sampling(temperature=0.0, max_tokens=max_tokens),
        version_digest=digest,
        priority=_YIELDING,
        with_logprobs=True,
        whole=True,
    )
    last = engine_pb2.InferResponse()
    stream: Any = stub.Infer(request, timeout=_SECONDS)
    with rpc_errors():
        async for message in stream:
            last = message
    return Said(tuple(last.prompt_token_ids), tuple(last.output_token_ids), tuple(last.output_logprobs))
