"""The first gate: the candidate that is served says what its trainer recorded, or is refused by name."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from libs.artifacts import ObjectStore
from libs.contracts.commands import EvaluateModel
from libs.contracts.errors import Unavailable
from libs.contracts.estimates import Verdict
from libs.contracts.parity import Said
from libs.contracts.routes import EngineReport
from libs.contracts.stubs.pawl.serving.v1 import engine_pb2, engine_pb2_grpc
from libs.contracts.subjects import ENGINES
from libs.eventing.connection import NatsLink
from libs.eventing.kv import kv_put
from libs.runtime.grpc_server import GrpcServer
from services.evaluator.clients.engines import Engines
from services.evaluator.handlers.parity import GATE, ParityGate
from services.evaluator.tests.conftest import Evaluator, House
from services.evaluator.tests.support import BASE, Facts, FakeGateway, command, put_suite, send
from services.evaluator.tests.test_evaluation import completed

RECORD = {
    "format": 1,
    "precision": "fp32",
    "items": [
        {
            "messages": [{"role": "user", "content": "Hello"}],
            "prompt_token_ids": [1, 4],
            "completion_token_ids": [9, 2],
            "logprobs": [-0.1, -0.2],
            "base_logprobs": [-5.0, -6.0],
        }
    ],
}
RIGHT = Said((1, 4), (9, 2), (-0.1, -0.2))


class FakeEngines:
    """Say what they are told to, after having been away for a while."""

    def __init__(self, said: Said, away: int = 0) -> None:
        self.said = said
        self.away = away

    async def answers(self, digest: str, prompts: Sequence[Sequence[Mapping[str, str]]], max_tokens: int) -> list[Said]:
        if self.away:
            self.away -= 1
            raise Unavailable("not yet")
        assert max_tokens == 2
        return [self.said for _ in prompts]


async def candidate(objects: ObjectStore, directory: Path, record: Any = RECORD) -> EvaluateModel:
    """A command for a version with such a record."""
    directory.mkdir()
    (directory / "adapter_config.json").write_text("{}")
    if record is not None:
        (directory / "parity.json").write_text(json.dumps(record))
    digest = await objects.put_tree(directory, kind="adapter", metadata={})
    plain = command("sha256:" + "0" * 64)
    return plain.model_copy(update={"candidate": plain.candidate.model_copy(update={"digest": digest})})


@pytest.mark.parametrize(
    ("said", "verdict", "told"),
    [
        (RIGHT, Verdict.PASS, "1 prompts have the trainer's token ids"),
        (replace(RIGHT, prompt_token_ids=(1, 5)), Verdict.FAIL, "token 2 is 5, and 4 where it was trained"),
        (replace(RIGHT, logprobs=(-5.0, -6.0)), Verdict.FAIL, "the adapter is not in use"),
    ],
)
async def test_a_candidate_passes_only_by_saying_what_was_trained(
    object_store: ObjectStore, tmp_path: Path, said: Said, verdict: Verdict, told: str
) -> None:
    asked = await candidate(object_store, tmp_path / "version")
    found = await ParityGate(object_store, FakeEngines(said, away=1), patience=20).decide(asked)
    assert found is not None
    assert (found.gate, found.verdict) == (GATE, verdict)
    assert told in found.reason


async def test_a_candidate_nobody_serves_is_neither_passed_nor_refused(
    object_store: ObjectStore, tmp_path: Path
) -> None:
    asked = await candidate(object_store, tmp_path / "version")
    with pytest.raises(Unavailable):
        await ParityGate(object_store, FakeEngines(RIGHT, away=9), patience=0).decide(asked)


async def test_a_version_without_a_record_has_no_such_gate(object_store: ObjectStore, tmp_path: Path) -> None:
    asked = await candidate(object_store, tmp_path / "version", record=None)
    assert await ParityGate(object_store, FakeEngines(RIGHT), patience=0).decide(asked) is None


async def test_a_mismatch_fails_the_whole_report_and_stands_first_in_it(
    house: House,
    evaluator: Evaluator,
    link: NatsLink,
    object_store: ObjectStore,
    gateway: FakeGateway,
    facts: Facts,
    tmp_path: Path,
) -> None:
    asked = await candidate(object_store, tmp_path / "version")
    wrong = FakeEngines(replace(RIGHT, token_ids=(8, 2), logprobs=(-3.0, -0.2)))
    house.evaluation._parity = ParityGate(object_store, wrong, patience=0)
    suite = await put_suite(object_store, tmp_path / "suite")
    gateway.digests[1] = (BASE, asked.candidate.digest)
    await send(link, asked.model_copy(update={"suite_digest": suite}), turn_id="turn-1")
    report = (await completed(facts)).data
    assert report.verdict is Verdict.FAIL
    assert report.gates[0].gate == GATE
    assert "token 1 is 8, and 9 where it was trained" in report.gates[0].reason


class _Engine(engine_pb2_grpc.EngineServiceServicer):
    async def Infer(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        assert request.with_logprobs
        yield engine_pb2.InferResponse(
            prompt_token_ids=[1, len(request.messages)], output_token_ids=[9], output_logprobs=[-0.5],
            finish_reason="stop",
        )  # fmt: skip

    async def Embed(self, request: Any, context: Any) -> Any:  # noqa: N802
        return engine_pb2.EmbedResponse()

    async def GetEngine(self, request: Any, context: Any) -> Any:  # noqa: N802
        return engine_pb2.GetEngineResponse()


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[str]:
    server = GrpcServer("127.0.0.1", 0)
    server.add(engine_pb2_grpc.add_EngineServiceServicer_to_server, _Engine(), "pawl.serving.v1.EngineService")
    await server.start()
    yield server.address
    await server.stop(0.1)


async def test_the_engine_that_reports_a_version_is_the_one_asked_for_it(link: NatsLink, engine: str) -> None:
    version, now = "sha256:" + "7" * 64, datetime.now(UTC)
    report = EngineReport(
        engine_id="e1", address=engine, base_digest=BASE, routable=(version,), started_at=now, beat_at=now
    )  # fmt: skip
    await kv_put(link, ENGINES, "e1", report)
    engines = Engines(link)
    await engines.start()
    await engines.synced()
    said = await engines.answers(version, [[{"role": "user", "content": "Hello"}]], 1)
    assert said == [Said((1, 1), (9,), (-0.5,))]
    with pytest.raises(Unavailable, match="no engine serves"):
        await engines.answers("sha256:" + "8" * 64, [], 1)
    await engines.stop()
    await kv_put(link, ENGINES, "e1", None)
