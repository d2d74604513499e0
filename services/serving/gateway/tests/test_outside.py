"""A server of somebody else's behind the gateway: a real HTTP server that speaks OpenAI's API."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio

from libs.contracts.errors import (
    Busy,
    InvalidInput,
    NotFound,
    PawlError,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from libs.contracts.inference import Message, Role
from libs.contracts.routes import Arm
from services.serving.gateway.clients import Engines, OutsideServer, read_servers
from services.serving.gateway.domain import Chunk, Deadline, Form, Generation, Inquiry, SamplingWish, TextBatch
from services.serving.gateway.http import HttpDoor, HttpServer
from services.serving.gateway.tests.rig import CLIENT, STABLE, Rig, fails, query, says
from services.serving.gateway.workflows import Answering

BASE, DIGEST = "sha256:" + "b" * 64, "sha256:" + "1" * 64


class Pair:
    """A gateway in front of an OpenAI server, which is another gateway before scripted engines."""

    def __init__(self) -> None:
        self.behind = Rig(STABLE)
        self.front = Rig(Arm(version=4, role=Role.STABLE, share=1.0, digest=DIGEST, base_digest=BASE))
        door: Any = HttpDoor(
            tables=self.behind.tables,
            answers=self.behind.answering,
            feedback=None,  # type: ignore[arg-type]
            request_seconds=30,
            max_body_bytes=100_000,
        )
        self.http = HttpServer(door.app, "127.0.0.1", 0, variable="X", drain_seconds=2)

    async def start(self) -> None:
        await self.http.start()
        self.server = OutsideServer(
            name="nim", url=f"http://127.0.0.1:{self.http.port}", base_digest=BASE, models={DIGEST: "t"}
        )
        self.engines = Engines([self.server])
        self.front.tables.reports.append(self.server.report())
        self.front.answering = Answering(
            tables=self.front.tables, engines=self.engines, records=self.front.log,
            limits=self.front.answering._limits, admission_wait=0.0, max_in_flight=9, shadow_in_flight=0,
            shadow_below=0, ledger=self.front.ledger,
        )  # fmt: skip

    async def whole(self, **options: Any) -> tuple[Generation, Chunk]:
        from dataclasses import replace

        asked = replace(query(), **options)
        return await self.front.answering.whole(CLIENT, asked, Deadline(time.monotonic() + 30))


@pytest_asyncio.fixture
async def pair() -> AsyncIterator[Pair]:
    made = Pair()
    await made.start()
    yield made
    await made.engines.close()
    await made.http.stop()


async def test_it_answers_as_an_engine_does_and_says_whose_digests_they_are(pair: Pair) -> None:
    pair.behind.engine("a", says("hel", "lo"), "d1")
    generation, chunk = await pair.whole()
    assert (generation.version, chunk.text, chunk.finish_reason) == ("t@4", "hello", "stop")
    assert chunk.usage is not None
    assert chunk.usage.completion_tokens == 2
    assert (chunk.provenance.base_digest, chunk.provenance.adapter_digest) == (BASE, DIGEST)
    assert chunk.provenance.tokenizer_digest == ""
    assert pair.front.log.records[0].output == "hello"


async def test_form_and_sampling_reach_it(pair: Pair) -> None:
    pair.behind.engine("a", says("{}"), "d1")
    await pair.whole(form=Form(json_schema='{"type": "object"}'))
    inquiry = pair.behind.engines.calls[0][1]
    assert json.loads(inquiry.form.json_schema) == {"type": "object"}
    assert inquiry.sampling.temperature == 0.0


@pytest.mark.parametrize(
    ("there", "here"),
    [
        (InvalidInput("too long", field="messages"), InvalidInput),
        (Busy("full", retry_after=1), Busy),
        (Unavailable("gone"), Unavailable),
        # It does not take the operator's key, or does not have the model: nothing that whoever asks could mend.
        (Unauthenticated("who are you?"), Unavailable),
        (PermissionDenied("not for you"), Unavailable),
        (NotFound("no such model"), Unavailable),
    ],
)
async def test_what_it_refuses_is_the_same_kind_of_error_here_where_the_caller_can_mend_it(
    pair: Pair, there: PawlError, here: type[PawlError]
) -> None:
    pair.behind.engine("a", fails(there), "d1")
    pair.behind.answering._admission_wait = 0.0
    with pytest.raises(here) as refused:
        await pair.whole()
    if here is InvalidInput:
        assert refused.value.field == "messages"


async def test_what_it_refuses_in_the_middle_of_a_stream_is_refused_here(pair: Pair) -> None:
    pair.behind.engine("a", fails(InvalidInput("no such type", field="response_format"), "he"), "d1")
    with pytest.raises(InvalidInput) as refused:
        await pair.whole(form=Form(json_schema='{"type": "object"}'))
    assert refused.value.field == "response_format"
    pair.behind.engine("a", fails(Unavailable("gone"), "he"), "d1")
    with pytest.raises(Unavailable):
        await pair.whole()


async def test_a_base_that_makes_vectors_makes_them_and_the_openai_client_reads_them(pair: Pair) -> None:
    """The server behind is asked through its own HTTP, and the front through the official client."""
    pair.behind.engine("a", says("no text is asked of it"), "d1")
    pair.behind.tables.reports[0] = pair.behind.tables.reports[0].model_copy(update={"embeds": True})
    pair.front.tables.reports[0] = pair.front.tables.reports[0].model_copy(update={"embeds": True})
    door: Any = HttpDoor(
        tables=pair.front.tables,
        answers=pair.front.answering,
        feedback=None,  # type: ignore[arg-type]
        request_seconds=30,
        max_body_bytes=100_000,
    )
    http = HttpServer(door.app, "127.0.0.1", 0, variable="X", drain_seconds=2)
    await http.start()
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{http.port}/v1", api_key="k", max_retries=0) as client:
        found = await client.embeddings.create(model="t", input=["one", "three"])
        plain = await client.embeddings.create(model="t", input="one", encoding_format="float")
        with pytest.raises(openai.BadRequestError) as refused:
            await client.embeddings.create(model="t", input=[[1, 2]])
    await http.stop()
    assert [each.embedding for each in found.data] == [[3.0, 0.5], [5.0, 0.5]]
    assert plain.data[0].embedding == [3.0, 0.5]
    assert found.usage.prompt_tokens == 7
    assert refused.value.param == "input"
    assert sum(use.prompt_tokens for use in pair.front.ledger.held.values()) == 14


async def test_one_url_may_generate_under_one_name_and_embed_under_another(pair: Pair) -> None:
    pair.behind.engine("a", says("text"), "d1")
    makes = pair.server.model_copy(update={"name": "vectors", "embeds": True})
    engines = Engines([pair.server, makes])
    chunks = [each async for each in engines.infer(pair.server.address, asked_of_it())]
    assert "".join(each.text for each in chunks) == "text"
    pair.behind.tables.reports[0] = pair.behind.tables.reports[0].model_copy(update={"embeds": True})
    made = await engines.embed(makes.address, TextBatch("r", ("one",), DIGEST, 0, 30.0))
    assert made.vectors == ((3.0, 0.5),)
    await engines.close()


def asked_of_it() -> Inquiry:
    hello = (Message(role="user", content="hello"),)
    return Inquiry("r", hello, SamplingWish(temperature=0.0, top_p=1.0, max_tokens=4), DIGEST, 0, 30.0)


async def test_one_that_is_away_is_unavailable(pair: Pair) -> None:
    await pair.http.stop()
    with pytest.raises(Unavailable):
        await pair.whole()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not JSON"),
        ('[{"name": "a b"}]', "0.name"),
        (json.dumps([{"name": "a", "url": "http://x", "base_digest": BASE, "models": {}}] * 2), "1.name"),
        (json.dumps([{"name": "a", "url": "ftp://x", "base_digest": BASE, "models": {}}]), "0.url"),
    ],
)
def test_a_file_of_servers_that_is_wrong_names_the_place(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "outside.json"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=told):
        read_servers(file)
