"""`/v1/embeddings` before an engine of ours that makes vectors, beside one that generates with the same base."""

import math
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from libs.contracts.errors import FailedPrecondition, InvalidInput, Unavailable
from libs.contracts.inference import Role
from libs.contracts.stubs.pawl.serving.v1 import engine_pb2, engine_pb2_grpc, inference_pb2
from libs.runtime.grpc_client import channel, rpc_errors
from libs.testing.wait import eventually
from services.serving.conftest import Service, Stack
from services.serving.gateway.domain import Deadline, Embedded, Generation
from services.serving.gateway.tests.doors import HELLO, api, served
from services.serving.gateway.tests.rig import AWAY, CLIENT, STABLE, Rig, arm, fails, query, says

TEXTS = ["the printer is on fire", "the invoice was paid twice", "the printer is on fire"]


@pytest.fixture(scope="module")
def maker(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """An engine of the stack's base that makes vectors."""
    told = {"PAWL_ENGINE_ID": "vectors", "PAWL_ENGINE_EMBEDS": "true"}
    home = tmp_path_factory.mktemp("vectors") / "engine"
    made = Service("services.serving.engine", home, {**stack.engine.environment, **told})
    made.start()
    made.wait_ready()
    yield made
    assert made.stop() == 0


@pytest_asyncio.fixture
async def vectors(stack: Stack, maker: Service, fresh_task: str) -> AsyncIterator[tuple[str, str, Any]]:
    """A task with a version that both engines have, that version, and the door of the one that makes vectors."""
    digest = await stack.adapter("embedded", 970)
    await stack.put_route(fresh_task, stack.arm(0, Role.PREVIOUS), stack.arm(1, Role.STABLE, digest, 1.0))
    await served(stack, fresh_task)
    opened = channel(maker.address)
    stub: Any = engine_pb2_grpc.EngineServiceStub(opened)

    async def there() -> bool:
        return digest in (await stub.GetEngine(engine_pb2.GetEngineRequest())).routable

    await eventually(there, 60, every=0.1)
    yield fresh_task, digest, stub
    await opened.close()


async def test_the_official_client_gets_vectors_of_the_version_it_asks_for(
    stack: Stack, vectors: tuple[str, str, Any]
) -> None:
    task, digest, _ = vectors
    async with api(stack) as client:

        async def known() -> bool:
            try:
                await client.embeddings.create(model=task, input="hi")
            except openai.BadRequestError:
                return False  # the engine's report is on its way
            return True

        await eventually(known, 20, every=0.2)
        tuned = await client.embeddings.create(model=task, input=TEXTS)
        bare = await client.embeddings.create(model=f"{task}@0", input=TEXTS, encoding_format="float")
        answer = await client.chat.completions.create(model=task, messages=HELLO, max_tokens=2)
    first, second, again = (each.embedding for each in tuned.data)
    assert first == pytest.approx(again, abs=1e-5)
    assert math.hypot(*first) == pytest.approx(1.0, abs=1e-3)
    assert math.dist(first, second) > 1e-3
    assert math.dist(first, bare.data[0].embedding) > 1e-3, "an adapter changes what a text means"
    assert tuned.usage.prompt_tokens == bare.usage.prompt_tokens > 0
    assert (tuned.model, bare.model) == (f"{task}@1", f"{task}@0")
    proof = (tuned.model_extra or {})["pawl"]
    assert (proof["base_digest"], proof["adapter_digest"]) == (stack.base_digest, digest)
    assert proof["tokenizer_digest"].startswith("sha256:")
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2, "the same version is generated with elsewhere"


async def test_an_engine_that_makes_vectors_generates_nothing_and_the_other_way_round(
    stack: Stack, vectors: tuple[str, str, Any]
) -> None:
    _, digest, maker = vectors
    asked = engine_pb2.InferRequest(
        request_id="r", messages=[inference_pb2.Message(role="user", content="x")], version_digest=digest
    )
    with pytest.raises(FailedPrecondition) as refused, rpc_errors():
        _ = [each async for each in maker.Infer(asked, timeout=30)]
    assert refused.value.reason == "EMBEDS_ONLY"
    opened = channel(stack.engine.address)
    other: Any = engine_pb2_grpc.EngineServiceStub(opened)
    batch = engine_pb2.EmbedRequest(request_id="r", texts=["x"], version_digest=digest)
    with pytest.raises(FailedPrecondition) as unable, rpc_errors():
        await other.Embed(batch, timeout=30)
    assert unable.value.reason == "EMBEDDINGS_NOT_SUPPORTED"
    with pytest.raises(InvalidInput) as long, rpc_errors():
        await maker.Embed(engine_pb2.EmbedRequest(request_id="r", texts=["x" * 600], version_digest=digest), timeout=30)
    assert long.value.reason == "PROMPT_TOO_LONG"
    await opened.close()


def vector_rig(*arms: Any) -> Rig:
    rig = Rig(*(arms or (STABLE,)))
    rig.engine("a", says("unused"), "d1")
    rig.engine("b", says("unused"), "d1")
    rig.tables.reports = [each.model_copy(update={"embeds": True, "hourly_cost": 7200}) for each in rig.tables.reports]
    return rig


async def embedded(rig: Rig, *texts: str, user: str = "") -> tuple[Generation, Embedded]:
    return await rig.answering.embed(CLIENT, query(user=user), texts or ("one",), Deadline(1e12))


async def test_an_engine_that_fails_is_made_up_for_and_the_tenant_pays_once() -> None:
    rig = vector_rig()
    rig.engines.scripts["a"] = fails(AWAY)
    generation, found = await embedded(rig, "one", "three")
    assert (generation.version, found.vectors) == ("t@1", ((3.0, 0.5), (5.0, 0.5)))
    (use,) = rig.ledger.held.values()
    assert (use.answers, use.prompt_tokens, use.engine_seconds, use.cost) == (1, 7, 0.25, 0.5)
    rig.engines.scripts["b"] = fails(AWAY)
    with pytest.raises(Unavailable):
        await embedded(rig)


async def test_what_the_engine_refuses_is_asked_of_nobody_else() -> None:
    rig = vector_rig()
    for address in "ab":
        rig.engines.scripts[address] = fails(InvalidInput("too long", field="prompt"))
    with pytest.raises(InvalidInput, match="too long"):
        await embedded(rig)


async def test_where_no_engine_makes_vectors_with_the_canary_the_stable_version_stands_in() -> None:
    rig = vector_rig(arm(1, Role.STABLE, 0.0), arm(2, Role.CANARY, 1.0))
    generation, _ = await embedded(rig, user="ann")
    assert generation.version == "t@1"
